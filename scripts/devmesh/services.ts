import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type ServiceName, serviceNames } from '../../services/manifest.ts';
import { repository } from './state.ts';

/** The folder of the services' programs; a test of the supervisor has programs of its own. */
const servicesDirectory = process.env.ARMATURE_SERVICES_DIR || join(repository, 'services');

export const mainFile = (name: string) => join(servicesDirectory, name, 'main.ts');

/** The services whose program exists; an incomplete checkout may lack some. */
export function presentServices(): ServiceName[] {
  return serviceNames.filter((name) => existsSync(mainFile(name)));
}
