import { join } from 'node:path';
import type { Mesh } from './mesh.ts';
import { readJson, runDirectory } from './state.ts';

/** What mesh.json says of the running mesh. Without one there is nothing to call, and the error says what to do. */
export function runningMesh(): Mesh {
  const path = join(runDirectory(), 'mesh.json');
  const mesh = readJson<Mesh>(path);
  if (!mesh) throw new Error(`The mesh is not running (there is no ${path}); start it with: armature up`);
  return mesh;
}

/** host:port of a service that is up. */
export function addressOf(mesh: Mesh, service: string): string {
  const { state, grpc } = mesh.services[service] ?? {};
  if (state === 'ready' && grpc) return grpc;
  throw new Error(
    `${service} is ${state ?? 'not running'}; armature status tells more, armature up starts what is missing`,
  );
}
