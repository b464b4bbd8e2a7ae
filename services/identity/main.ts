import {
  IdentityServiceContract,
  SessionServiceContract,
  SigningKeyServiceContract,
} from '@armature/proto/identity/v1/contract.ts';
import { run } from '@armature/runtime';
import { config } from './config.ts';
import { identity } from './identity.ts';

await run({
  name: 'identity',
  config,
  contracts: [IdentityServiceContract, SessionServiceContract, SigningKeyServiceContract],
  migrations: () => import('./migrations/index.ts'),
  build: identity,
});
