// Makes the development certificates, and renews what is about to end. With a step, changes the authority while
// everything runs: start, switch, retire.
import { retireAuthority, startRotation, switchAuthority } from '../../devmesh/ca-rotation.ts';
import { ensureCertificates } from '../../devmesh/certificates.ts';
import { reloadServers } from '../../devmesh/servers/servers.ts';
import { shownCertificates } from '../../devmesh/shown-certificates.ts';
import { openState, type State } from '../../devmesh/state.ts';
import type { Invocation } from '../command.ts';
import { printJson } from '../json.ts';
import { withNotice } from '../terminal.ts';

export const certificateSteps = ['renew', 'start', 'switch', 'retire'] as const;
type CertificateStep = (typeof certificateSteps)[number];

const steps: Record<CertificateStep, (state: State) => Promise<string>> = {
  async renew(state) {
    const written = await ensureCertificates(state);
    await reloadServers(state);
    if (written.length === 0) return `All certificates in ${state.dir} are good for a week or more.`;
    return `Made ${written.join(', ')} in ${state.dir}.`;
  },
  async start(state) {
    await startRotation(state);
    return 'Two authorities are trusted now; the old one still signs. Next: armature certs switch';
  },
  async switch(state) {
    const written = await switchAuthority(state);
    await reloadServers(state);
    return `The new authority signs now; made ${written.join(', ')}. Next: armature certs retire`;
  },
  async retire(state) {
    await retireAuthority(state, shownCertificates(state));
    return 'Only the new authority is trusted now.';
  },
};

/** Renews certificates, or takes one step of a change of their authority. */
export async function renewCertificates(name: string, { json, deadline }: Invocation): Promise<void> {
  deadline.waitingFor = 'the servers';
  const line = await withNotice('the servers', () => steps[name as CertificateStep](openState()));
  if (json) printJson({ step: name, result: line });
  else console.log(line);
}
