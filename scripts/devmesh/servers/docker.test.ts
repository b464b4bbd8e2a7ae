// What can be told of the containers without an engine.
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { certificateFiles, ensureCertificates } from '../certificates.ts';
import { openState, repository } from '../state.ts';
import { copyCertificates } from './docker.ts';
import { brokerSettings } from './rabbitmq.ts';

const deployed = (name: string) => readFileSync(join(repository, 'deploy', name), 'utf8');

t.test('containers get what their settings name, and nothing beyond', async (t) => {
  const state = openState(t.testdir());
  await ensureCertificates(state);
  const folder = copyCertificates(state);
  const named = new Set(
    [deployed('compose.yaml'), deployed('rabbitmq.conf')].flatMap((text) =>
      [...text.matchAll(/\/certificates\/([\w.]+)/g)].map(([, file]) => file!),
    ),
  );
  t.same([...named].sort(), ['ca.pem', 'mysql.key', 'mysql.pem', 'rabbitmq.key', 'rabbitmq.pem']);
  for (const file of named) t.ok(existsSync(join(folder, file)), file);
  t.notOk(existsSync(join(folder, 'ca.key')), "the authority's key stays here");
  t.equal(
    statSync(join(folder, 'mysql.key')).mode & 0o777,
    0o444,
    'readable to the user of the server in its container',
  );
  t.equal(statSync(dirname(folder)).mode & 0o777, 0o700, 'but to no other user of this machine');
  const original = new X509Certificate(readFileSync(certificateFiles(state, 'mysql').cert));
  t.equal(new X509Certificate(readFileSync(join(folder, 'mysql.pem'))).fingerprint256, original.fingerprint256);
});

t.test('a broker in a container is set up like one of this machine', async (t) => {
  const settings = (text: string) =>
    text
      .split('\n')
      .filter((line) => /^(listeners|ssl_options|management)\./.test(line))
      // Addresses are the container's own affair; which of them are reached, compose.yaml says.
      .filter((line) => !line.startsWith('management.ssl.ip'))
      .map((line) => line.replace(/= .*\//, '= ').replace(/(127\.0\.0\.1:)?\d{4,5}$/, 'PORT'))
      .sort();
  const state = openState(t.testdir());
  const ours = brokerSettings(state, { amqp: 5671, management: 15671 });
  t.same(settings(deployed('rabbitmq.conf')), settings(ours));
});
