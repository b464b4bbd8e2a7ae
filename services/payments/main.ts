import {
  LedgerServiceContract,
  PaymentOperationServiceContract,
  PaymentServiceContract,
} from '@armature/proto/payments/v1/contract.ts';
import { run } from '@armature/runtime';
import { paymentsComponents } from './components.ts';
import { config } from './config.ts';

await run({
  name: 'payments',
  config,
  contracts: [PaymentServiceContract, PaymentOperationServiceContract, LedgerServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: paymentsComponents,
});
