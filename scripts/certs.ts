// Makes the development certificates and the token key, and renews what is about to end.
import { ensureCertificates } from './certificates.ts';
import { fail } from './progress.ts';
import { openState } from './state.ts';
import { ensureTokenKey } from './token.ts';

const state = openState();
await ensureCertificates(state)
  .then(async (written) => {
    if (await ensureTokenKey(state)) written.push('token key');
    console.log(
      written.length > 0
        ? `Made ${written.join(', ')} in ${state.dir}.`
        : `All certificates in ${state.dir} are good for a week or more.`,
    );
  })
  .catch(fail);
