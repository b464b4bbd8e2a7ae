import type { AnyDesc, DescFile } from '@bufbuild/protobuf';

/** Collects what is wrong with the contracts, so that one run reports every fault. */
export class Problems {
  readonly #lines: string[] = [];

  /** `what` says what is wrong and what to add. */
  add(desc: Exclude<AnyDesc, DescFile>, what: string): void {
    this.#lines.push(`${fileOf(desc).name}.proto: ${nameOf(desc)} ${what}`);
  }

  /** Empty if there are no problems. */
  toString(): string {
    return this.#lines.join('\n');
  }
}

function fileOf(desc: Exclude<AnyDesc, DescFile>): DescFile {
  if (desc.kind === 'rpc') return desc.parent.file;
  if (desc.kind === 'field' || desc.kind === 'oneof') return desc.parent.file;
  if (desc.kind === 'enum_value') return desc.parent.file;
  return desc.file;
}

/** "method armature.orders.v1.OrderService.PlaceOrder" */
function nameOf(desc: Exclude<AnyDesc, DescFile>): string {
  if (desc.kind === 'rpc') return `method ${desc.parent.typeName}.${desc.name}`;
  if (desc.kind === 'field' || desc.kind === 'oneof') return `${desc.kind} ${desc.parent.typeName}.${desc.name}`;
  if (desc.kind === 'enum_value') return `enum value ${desc.parent.typeName}.${desc.name}`;
  return `${desc.kind} ${desc.typeName}`;
}
