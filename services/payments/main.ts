import {
  LedgerServiceContract,
  PaymentOperationServiceContract,
  PaymentServiceContract,
} from '@armature/proto/payments/v1/contract.ts';
import { run } from '@armature/runtime';
import { config } from './config.ts';
import { payments } from './parts.ts';

await run({
  name: 'payments',
  config,
  contracts: [PaymentServiceContract, PaymentOperationServiceContract, LedgerServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: payments,
});
