// Collects the permissions of all contracts, and writes the list of them.
import type { Schema } from '@bufbuild/protoplugin';
import type { PackageModel } from './model.ts';
import type { Problems } from './problems.ts';

export interface PermissionModel {
  readonly name: string;
  readonly reserved: boolean;
  /** Paths. */
  readonly methods: string[];
  /** Full names. */
  readonly events: string[];
}

/** Every permission that a method or event requires, by name. Reports methods that disagree whether it is reserved. */
export function permissionsOf(models: readonly PackageModel[], problems: Problems): PermissionModel[] {
  const known = new Map<string, PermissionModel>();
  const at = (name: string, reserved: boolean): PermissionModel => {
    const found = known.get(name) ?? { name, reserved, methods: [], events: [] };
    known.set(name, found);
    return found;
  };
  for (const { desc, options } of models.flatMap(({ services }) => services.flatMap(({ methods }) => methods))) {
    const found = at(options.permission, options.reserved);
    if (found.reserved !== options.reserved) {
      const others = found.methods.join(', ');
      problems.add(
        desc,
        `says another reserved for ${options.permission} than ${others}; a permission is reserved or not`,
      );
    }
    found.methods.push(`/${desc.parent.typeName}/${desc.name}`);
  }
  for (const { service, permission } of models.flatMap(({ services }) =>
    services.flatMap(({ companions }) => companions),
  )) {
    at(permission, false).methods.push(`/${service}`);
  }
  for (const { desc, options } of models.flatMap(({ events }) => events)) {
    at(options.permission, false).events.push(desc.typeName);
  }
  return [...known.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Writes the list, for access, which gives permissions to roles, and for the runtime, which compares rights. */
export function printPermissions(permissions: readonly PermissionModel[], schema: Schema): void {
  if (permissions.length === 0) return;
  const file = schema.generateFile('armature/permissions.ts');
  file.print('/** A permission, and the paths of the methods and the full names of the events that require it. */');
  file.print(file.export('interface', 'Permission'), ' {');
  file.print('  readonly name: string;');
  file.print('  /** Whether access gives it to no subject and no role, unless the deployment allows it. */');
  file.print('  readonly reserved: boolean;');
  file.print('  readonly methods: readonly string[];');
  file.print('  readonly events: readonly string[];');
  file.print('}');
  file.print();
  file.print('/** Every permission that a contract names. */');
  file.print(file.export('const', 'permissions'), ': readonly Permission[] = [');
  for (const { name, reserved, methods, events } of permissions) {
    const lists = `methods: ${JSON.stringify(methods)}, events: ${JSON.stringify(events)}`;
    file.print(`  { name: ${JSON.stringify(name)}, reserved: ${reserved}, ${lists} },`);
  }
  file.print('];');
}
