// Messages, enums and error reasons of armature.catalog.v1.

export * from '@armature/proto/catalog/v1/catalog.ts';
export { CatalogErrorReason } from '@armature/proto/catalog/v1/contract.ts';
