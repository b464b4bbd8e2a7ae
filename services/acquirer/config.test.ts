import t from 'tap';
import { ConfigError, readConfig } from './config.ts';

t.test('defaults', async (t) => {
  t.same(readConfig({ ARMATURE_ACQUIRER_DATA_DIR: '/var/data' }), {
    host: '127.0.0.1',
    port: 0,
    dataDirectory: '/var/data',
    slowMs: 1500,
    holdMs: 604_800_000,
    keyRetentionMs: 259_200_000,
    webhooks: undefined,
    stateFile: undefined,
    logLevel: 'info',
  });
});

t.test('addresses', async (t) => {
  const at = (address: string) =>
    readConfig({ ARMATURE_ACQUIRER_DATA_DIR: '/var/data', ARMATURE_ACQUIRER_ADDRESS: address });
  t.match(at('[::1]:8080'), { host: '::1', port: 8080 });
  t.match(at('0.0.0.0:65535'), { host: '0.0.0.0', port: 65_535 });
  for (const wrong of ['8080', 'localhost', 'localhost:', 'localhost:65536', ':80', 'http://a:80']) {
    t.match(
      problemsOf(() => at(wrong)),
      [/^ARMATURE_ACQUIRER_ADDRESS must be host:port/],
      wrong,
    );
  }
});

t.test('every problem is reported at once', async (t) => {
  const environment = {
    ARMATURE_ACQUIRER_ADDRESS: 'nowhere',
    ARMATURE_ACQUIRER_SLOW_MS: '-1',
    ARMATURE_LOG_LEVEL: 'loud',
  };
  t.match(
    problemsOf(() => readConfig(environment)),
    [
      /^ARMATURE_ACQUIRER_ADDRESS /,
      /^ARMATURE_ACQUIRER_DATA_DIR /,
      /^ARMATURE_ACQUIRER_SLOW_MS /,
      /^ARMATURE_LOG_LEVEL /,
    ],
  );
});

function problemsOf(read: () => unknown): readonly string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}
