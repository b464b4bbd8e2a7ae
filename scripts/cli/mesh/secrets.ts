// Replaces the secrets that services seal, hash and sign with, in three steps while the mesh runs.
import { secretVersion } from '@armature/runtime/credentials';
import { meshServices } from '../../devmesh/mesh.ts';
import { terminalProgress } from '../../devmesh/progress.ts';
import { withConnection } from '../../devmesh/provision.ts';
import { runningMesh } from '../../devmesh/running-mesh.ts';
import { secretLeftovers } from '../../devmesh/secret-leftovers.ts';
import {
  type RestartAll,
  retireSecrets,
  secretStage,
  secretVersions,
  startSecrets,
  switchSecrets,
} from '../../devmesh/secret-rotation.ts';
import { openState, type State } from '../../devmesh/state.ts';
import { restartService } from '../../devmesh/up.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';

export const secretSteps = ['status', 'start', 'switch', 'retire'] as const;
type SecretStep = (typeof secretSteps)[number];

const leftoversOf = (state: State) => withConnection(runningMesh().mysql.url, (one) => secretLeftovers(state, one));

const steps: Record<SecretStep, (state: State, restartAll: RestartAll, force: boolean) => Promise<string>> = {
  async status(state) {
    const { stage, applied } = secretStage(state);
    const [current, other] = secretVersions(state, 'identity').map((secret) => secretVersion(secret));
    const lines = [`${stage}${applied ? '' : ' (interrupted: run the step again)'}; current version ${current}`];
    if (stage === 'started') lines.push(`next version ${other}; the next step is armature secrets switch`);
    if (stage === 'switched') {
      lines.push(`earlier version ${other}; the next step is armature secrets retire. Still needed by:`);
      const left = await leftoversOf(state);
      lines.push(...left.map(({ what, count }) => `  ${count} ${what}`), ...(left.length === 0 ? ['  nothing'] : []));
    }
    return lines.join('\n');
  },
  async start(state, restartAll) {
    await startSecrets(state, restartAll);
    return 'Every process knows the next version of its secrets; the current one is used. Next: armature secrets switch';
  },
  async switch(state, restartAll) {
    await switchSecrets(state, restartAll);
    return 'The new version is used; the earlier one still opens and verifies. Next: armature secrets retire';
  },
  async retire(state, restartAll, force) {
    await retireSecrets(state, restartAll, { leftovers: () => leftoversOf(state), force });
    return 'Only the new version is known now.';
  },
};

/** Takes one step of the replacement of all secrets, or shows how far it has come. */
export async function changeSecrets(
  step: string,
  { force = false }: { force?: boolean },
  { json, deadline }: Invocation,
): Promise<void> {
  const state = openState();
  const progress = terminalProgress();
  // One after another: the rest of the mesh keeps running.
  const restartAll = async () => {
    for (const { name } of meshServices(runningMesh())) {
      await progress.step(
        name,
        () => restartService(state, { service: name, watch: false }, deadline.signal),
        () => 'ready',
      );
    }
  };
  const line = await steps[step as SecretStep](state, restartAll, force);
  if (json) printJson({ step, result: line });
  else console.log(line);
}
