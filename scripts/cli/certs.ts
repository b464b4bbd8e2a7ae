// Makes the development certificates, and renews what is about to end. With a step, changes the authority while
// everything runs: start, switch, retire.
import { retireAuthority, startRotation, switchAuthority } from '../devmesh/ca-rotation.ts';
import { ensureCertificates } from '../devmesh/certificates.ts';
import { fail } from '../devmesh/progress.ts';
import { reloadServers } from '../devmesh/servers/servers.ts';
import { shownCertificates } from '../devmesh/shown-certificates.ts';
import { openState, type State } from '../devmesh/state.ts';

const steps: Record<string, (state: State) => Promise<string>> = {
  async renew(state) {
    const written = await ensureCertificates(state);
    await reloadServers(state);
    if (written.length === 0) return `All certificates in ${state.dir} are good for a week or more.`;
    return `Made ${written.join(', ')} in ${state.dir}.`;
  },
  async start(state) {
    await startRotation(state);
    return 'Two authorities are trusted now; the old one still signs. Next: make certs STEP=switch';
  },
  async switch(state) {
    const written = await switchAuthority(state);
    await reloadServers(state);
    return `The new authority signs now; made ${written.join(', ')}. Next: make certs STEP=retire`;
  },
  async retire(state) {
    await retireAuthority(state, shownCertificates(state));
    return 'Only the new authority is trusted now.';
  },
};

const name = process.argv[2] || 'renew';
const step = Object.hasOwn(steps, name) ? steps[name] : undefined;
await (step
  ? step(openState()).then((line) => console.log(line))
  : Promise.reject(new Error(`STEP=${name} is none of ${Object.keys(steps).join(', ')}`))
).catch(fail);
