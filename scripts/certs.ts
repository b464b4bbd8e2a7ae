// Makes the development certificates, and renews what is about to end.
import { ensureCertificates } from './certificates.ts';
import { fail } from './progress.ts';
import { openState } from './state.ts';

const state = openState();
await ensureCertificates(state)
  .then((written) =>
    console.log(
      written.length > 0
        ? `Made ${written.join(', ')} in ${state.dir}.`
        : `All certificates in ${state.dir} are good for a week or more.`,
    ),
  )
  .catch(fail);
