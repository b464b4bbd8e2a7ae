import { createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { messagesOf } from '../../protoc-gen-armature/model.ts';
import { type MethodOptions, optionsOf } from '../../protoc-gen-armature/options.ts';

/** Something that policy guards: a method that is called, or an event that is published. */
export interface Operation {
  kind: 'method' | 'event';
  /** "armature.orders.v1.OrderService/PlaceOrder", "armature.orders.v1.OrderPlaced" */
  name: string;
  permission: string;
  /** The request field that names the owner, or "loaded"; empty where there is none: then the scope own allows nothing. */
  owner: string;
  /** Whether every decision about it is recorded. */
  audit: boolean;
}

/** The runtime guards gRPC's own channelz under this permission; no contract of ours says so. */
const channelz: Operation = {
  kind: 'method',
  name: 'grpc.channelz.v1.Channelz/*',
  permission: 'ops.channelz',
  owner: '',
  audit: false,
};

/** Every operation of the contracts in a descriptor set, methods first, in the order of their names. */
export function operationsOf(descriptors: Uint8Array): Operation[] {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  const files = [...registry.files];
  const options = optionsOf(files);
  const methods = files
    .flatMap((file) => file.services)
    .flatMap((service) => service.methods)
    .flatMap((method): Operation[] => {
      const promises = options.method(method);
      if (!promises) return [];
      const { permission, audit } = promises;
      const name = `${method.parent.typeName}/${method.name}`;
      // Contracts from before there was such a promise lack the field.
      return [{ kind: 'method', name, permission, owner: ownerOf(promises), audit: audit ?? false }];
    });
  const events = messagesOf(files).flatMap((message): Operation[] => {
    const promises = options.event(message);
    if (!promises) return [];
    return [{ kind: 'event', name: message.typeName, permission: promises.permission, owner: '', audit: false }];
  });
  return [...inOrder([...methods, channelz]), ...inOrder(events)];
}

function ownerOf({ owner }: MethodOptions): string {
  if (owner?.rule.case === 'field') return owner.rule.value;
  return owner?.rule.case === 'loaded' && owner.rule.value ? 'loaded' : '';
}

const inOrder = (operations: Operation[]) => operations.sort((a, b) => (a.name < b.name ? -1 : 1));
