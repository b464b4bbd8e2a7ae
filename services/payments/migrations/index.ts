import { Migration20261101100000_payments } from './20261101100000-payments.ts';
import { Migration20261124180000_webhooks } from './20261124180000-webhooks.ts';
import { Migration20261124190000_reconciliation } from './20261124190000-reconciliation.ts';
import { Migration20261127190000_operators } from './20261127190000-operators.ts';
import { Migration20261127193000_reconciliation_passes } from './20261127193000-reconciliation-passes.ts';
import { Migration20261127213000_operation_callers } from './20261127213000-operation-callers.ts';
import { Migration20261128700000_customer_payments } from './20261128700000-customer-payments.ts';

export const migrations = [
  Migration20261101100000_payments,
  Migration20261124180000_webhooks,
  Migration20261124190000_reconciliation,
  Migration20261127190000_operators,
  Migration20261127193000_reconciliation_passes,
  Migration20261127213000_operation_callers,
  Migration20261128700000_customer_payments,
];
