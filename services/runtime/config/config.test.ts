import t from 'tap';
import { address, ConfigError, integer, oneOf, peer, readConfig, source, text, url } from './config.ts';

const spec = {
  host: address('HOST', 'where to listen'),
  pool: integer('POOL', 'connections', { min: 1, max: 10, fallback: 5 }),
  level: oneOf('LEVEL', 'what to log', ['info', 'debug'], 'info'),
  database: url('DATABASE', 'mysql://…', ['mysql']),
  catalog: peer('catalog'),
  access: peer('access', { fallback: [] }),
  keys: source('KEYS', 'a file or a URL'),
  note: text('NOTE', 'anything', { fallback: '' }),
};
const good = {
  HOST: '127.0.0.1:80',
  DATABASE: 'mysql://u:secret@h/s',
  ARMATURE_PEER_CATALOG: 'a:1, [::1]:2',
  KEYS: '/keys.json',
};

t.test('values and fallbacks', async (t) => {
  t.strictSame(readConfig(spec, { ...good, POOL: '7' }), {
    host: '127.0.0.1:80',
    pool: 7,
    level: 'info',
    database: 'mysql://u:secret@h/s',
    catalog: ['a:1', '[::1]:2'],
    access: [],
    keys: '/keys.json',
    note: '',
  });
});

t.test('what is wrong is said with the name of the variable', async (t) => {
  for (const row of [
    { name: 'missing', env: { HOST: '' }, says: 'HOST is not set: where to listen' },
    { name: 'not an address', env: { HOST: 'nowhere' }, says: 'HOST: "nowhere" is not host:port' },
    { name: 'not a number', env: { POOL: '3.5' }, says: 'POOL: "3.5" is not a whole number from 1 to 10' },
    { name: 'too large', env: { POOL: '11' }, says: 'POOL: "11" is not a whole number from 1 to 10' },
    { name: 'none of the choices', env: { LEVEL: 'loud' }, says: 'LEVEL: "loud" is none of info, debug' },
    {
      name: 'another protocol',
      env: { DATABASE: 'http://u:secret@h' },
      says: 'DATABASE: its value is not a URL of mysql',
    },
    {
      name: 'keys over http',
      env: { KEYS: 'http://h/jwks' },
      says: 'KEYS: "http://h/jwks" is neither a path nor an https',
    },
    {
      name: 'a bad peer',
      env: { ARMATURE_PEER_CATALOG: 'a:1,b' },
      says: 'ARMATURE_PEER_CATALOG: "a:1,b" is not host:port',
    },
    {
      name: 'too many peers',
      env: { ARMATURE_PEER_CATALOG: Array.from({ length: 101 }, () => 'a:1').join(',') },
      says: 'has more than 100 addresses (101)',
    },
    {
      name: 'a peer on port 0',
      env: { ARMATURE_PEER_CATALOG: 'a:0' },
      says: 'ARMATURE_PEER_CATALOG: "a:0" is not host:port of a server: the port must not be 0',
    },
  ]) {
    t.test(row.name, async (t) => {
      const error = t.throws(() => readConfig(spec, { ...good, ...row.env }), ConfigError) as ConfigError;
      t.match(error.message, row.says);
      t.notMatch(error.message, /secret/);
    });
  }
});

t.test('every problem is reported at once', async (t) => {
  const error = t.throws(() => readConfig(spec, {})) as ConfigError;
  for (const name of ['HOST', 'DATABASE', 'ARMATURE_PEER_CATALOG']) t.match(error.message, name);
});
