// Messages, enums and error reasons of armature.inventory.v1.
export { InventoryErrorReason } from '@armature/proto/inventory/v1/contract.ts';
export * from '@armature/proto/inventory/v1/inventory.ts';
