import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, utimesSync } from 'node:fs';
import { certificatesIn } from '@armature/runtime/credentials';
import t from 'tap';
import { type RotationStage, retireAuthority, rotationStage, startRotation, switchAuthority } from './ca-rotation.ts';
import { certificateFiles, ensureCertificates, readCa, serverNames, workloadIds } from './certificates.ts';
import { openState, type State, writeAtomically } from './state.ts';

const names = [...Object.keys(workloadIds()), ...serverNames];
const bundle = (state: State) => certificatesIn(readFileSync(certificateFiles(state, 'ca').cert, 'utf8'));
const leafOf = (state: State, name: string) => new X509Certificate(readFileSync(certificateFiles(state, name).cert));

/** Makes the files look as old as they must be for the next step to have nothing to wait for. */
function age(state: State): void {
  const past = new Date(Date.now() - 60_000);
  for (const name of [...names, 'ca']) utimesSync(certificateFiles(state, name).cert, past, past);
}

async function freshState(dir: string): Promise<State> {
  const state = openState(dir);
  await ensureCertificates(state);
  return state;
}

t.test('an authority is replaced in three steps', async (t) => {
  const state = await freshState(t.testdir());
  const [old] = bundle(state);
  const everyLeafIsOf = (ca: X509Certificate) => names.every((name) => leafOf(state, name).checkIssued(ca));
  t.equal(rotationStage(state), 'steady');

  await startRotation(state);
  t.equal(rotationStage(state), 'started');
  const [first, next] = bundle(state);
  t.equal(first!.fingerprint256, old!.fingerprint256, 'the old one is trusted');
  t.ok(next, 'and so is the new one');
  t.same(await ensureCertificates(state), [], 'the old one still signs');
  t.ok(everyLeafIsOf(old!));

  age(state);
  const keys = names.map((name) => readFileSync(certificateFiles(state, name).key, 'utf8'));
  t.same((await switchAuthority(state)).sort(), [...names].sort());
  t.equal(rotationStage(state), 'switched');
  t.equal(bundle(state).length, 2, 'both are trusted');
  t.ok(everyLeafIsOf(next!));
  t.same(
    names.map((name) => readFileSync(certificateFiles(state, name).key, 'utf8')),
    keys,
    'keys stay, so that a pair read at any moment fits',
  );
  t.equal(new X509Certificate((await readCa(state)).pem).fingerprint256, next!.fingerprint256);
  t.notOk(existsSync(certificateFiles(state, 'next-ca').key));

  age(state);
  await retireAuthority(state);
  t.equal(rotationStage(state), 'steady');
  t.same(
    bundle(state).map(({ fingerprint256 }) => fingerprint256),
    [next!.fingerprint256],
  );
  t.same(await ensureCertificates(state), [], 'and nothing is left to do');
});

t.test('a step out of turn says which one is due', async (t) => {
  const rows: { stage: RotationStage; steps: ((state: State) => Promise<unknown>)[]; due: RegExp }[] = [
    { stage: 'steady', steps: [switchAuthority, retireAuthority], due: /certs start/ },
    { stage: 'started', steps: [startRotation, retireAuthority], due: /certs switch/ },
    { stage: 'switched', steps: [startRotation], due: /certs retire/ },
  ];
  const state = await freshState(t.testdir());
  const forward: Record<RotationStage, (state: State) => Promise<unknown>> = {
    steady: startRotation,
    started: switchAuthority,
    switched: retireAuthority,
  };
  for (const { stage, steps, due } of rows) {
    t.equal(rotationStage(state), stage);
    for (const step of steps) await t.rejects(step(state), { message: due }, `${step.name} when ${stage}`);
    age(state);
    await forward[stage](state);
  }
});

t.test('a step that was interrupted is done again', async (t) => {
  await t.test('before the new authority was trusted', async (t) => {
    const state = await freshState(t.testdir());
    writeAtomically(certificateFiles(state, 'next-ca').key, (await readCa(state)).keyPem);
    t.equal(rotationStage(state), 'steady');
    await startRotation(state);
    t.equal(rotationStage(state), 'started');
  });
  await t.test('before every certificate was made anew', async (t) => {
    const state = await freshState(t.testdir());
    const { cert } = certificateFiles(state, 'orders');
    const old = readFileSync(cert, 'utf8');
    await startRotation(state);
    age(state);
    await switchAuthority(state);
    writeAtomically(cert, old);
    await t.rejects(retireAuthority(state), { message: /orders\.pem: still of the old authority/ });
    t.same(await switchAuthority(state), ['orders']);
  });
});

t.test('the old authority stays trusted while a server shows its certificate', async (t) => {
  const state = await freshState(t.testdir());
  const old = leafOf(state, 'rabbitmq');
  await startRotation(state);
  age(state);
  await switchAuthority(state);
  age(state);
  const showing = (leaf: X509Certificate | undefined) => [{ name: 'the broker', certificate: async () => leaf }];
  await t.rejects(retireAuthority(state, showing(old), 0), { message: /still shown by the broker/ });
  t.equal(rotationStage(state), 'switched');
  t.equal(bundle(state).length, 2);
  const leaves = [old, leafOf(state, 'rabbitmq')];
  const renewing = { name: 'the broker', certificate: async () => leaves.shift() };
  await retireAuthority(state, [renewing, ...showing(leafOf(state, 'rabbitmq')), ...showing(undefined)]);
  t.equal(bundle(state).length, 1);
});
