// Names of the code that ts-proto generates; contract modules import it by these names.
import type { DescEnum, DescField, DescFile, DescMessage, DescMethod, DescOneof } from '@bufbuild/protobuf';

/** "TrialBalance_Total" for the message Total inside TrialBalance. */
export function typeName(desc: DescMessage | DescEnum): string {
  const scope = desc.file.proto.package;
  return (scope === '' ? desc.typeName : desc.typeName.slice(scope.length + 1)).replaceAll('.', '_');
}

/** "requestId" for request_id. */
export function propertyName(desc: DescField | DescOneof): string {
  const [first = '', ...rest] = desc.name.split('_');
  return first + rest.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join('');
}

/** "placeOrder" for PlaceOrder. */
export function methodName(desc: DescMethod): string {
  return desc.name.slice(0, 1).toLowerCase() + desc.name.slice(1);
}

/** The module that ts-proto writes for a proto file, relative to the output folder. */
export function modulePath(file: DescFile): string {
  return `./${file.name}.ts`;
}

/** The module that this generator writes for the package of a file. */
export function contractPath(packageName: string): string {
  return `./${packageName.replaceAll('.', '/')}/contract.ts`;
}

/** "ORDER_ERROR_REASON" for OrderErrorReason. */
export function screamingSnake(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
}

/** Whether the rules of contracts apply to a package. */
export function isContractPackage(name: string): boolean {
  return name.startsWith('armature.') && !name.startsWith('armature.options.');
}
