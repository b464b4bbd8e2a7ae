export { formatMinor, formatMoney, isAcceptedCurrency } from './money.ts';
