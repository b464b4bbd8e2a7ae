import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { ServiceContract } from '@armature/proto/contract.ts';
import { IdentityServiceContract } from '@armature/proto/identity/v1/contract.ts';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import {
  LedgerServiceContract,
  PaymentOperationServiceContract,
  PaymentServiceContract,
} from '@armature/proto/payments/v1/contract.ts';
import { storingServices } from '../../scripts/devmesh/services.ts';

/** Every contract, with the name of the service that serves it. */
export const contracts: { service: string; contract: ServiceContract }[] = [
  { service: 'catalog', contract: CatalogServiceContract },
  { service: 'inventory', contract: InventoryServiceContract },
  { service: 'payments', contract: PaymentServiceContract },
  { service: 'payments', contract: LedgerServiceContract },
  { service: 'payments', contract: PaymentOperationServiceContract },
  { service: 'orders', contract: OrderServiceContract },
  { service: 'identity', contract: IdentityServiceContract },
  { service: 'notifications', contract: NotificationServiceContract },
  { service: 'access', contract: AccessServiceContract },
  ...storingServices.map((service) => ({ service, contract: OpsServiceContract })),
];
