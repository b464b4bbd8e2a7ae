import t from 'tap';
import { joinAddress, splitAddress } from './address.ts';

t.test('addresses', async (t) => {
  for (const [text, host, port] of [
    ['orders:7401', 'orders', 7401],
    ['Orders_1.shop.internal.:7401', 'orders_1.shop.internal.', 7401],
    ['127.0.0.1:0', '127.0.0.1', 0],
    ['[::1]:7401', '::1', 7401],
    ['[fe80::1%eth0]:65535', 'fe80::1%eth0', 65_535],
    ['bücher.example:443', 'xn--bcher-kva.example', 443],
  ] as const) {
    t.strictSame(splitAddress(text), { host, port }, text);
    t.strictSame(splitAddress(joinAddress({ host, port })), { host, port }, `${text}, written again`);
  }
});

t.test('other texts are refused with the reason', async (t) => {
  for (const [text, message] of [
    ['nowhere', '"nowhere" is not host:port'],
    [':7401', 'the host is not a host name'],
    ['orders:', 'is not host:port'],
    ['orders:65536', 'the port must be at most 65535 (got 65536)'],
    ['::1:7401', 'an IPv6 address needs brackets, as in [::1]:7401'],
    ['[orders]:7401', 'only an IPv6 address stands in brackets'],
    ['[127.0.0.1]:7401', 'only an IPv6 address stands in brackets'],
    ['[::1]', 'is not host:port'],
    ['[::1:7401', 'is not host:port'],
    ['256.0.0.1:7401', 'the host is not an IPv4 address'],
    ['1.2.3:7401', 'the host is not an IPv4 address'],
    ['-a.example:7401', 'the host is not a host name'],
    ['a..b:7401', 'the host is not a host name'],
    ['a b:7401', 'the host is not a host name'],
    ['a/b:7401', 'the host is not a host name'],
    ['a@b:7401', 'the host is not a host name'],
    ['https://a:7401', 'is not host:port'],
    [`${'a'.repeat(64)}:7401`, 'the host is not a host name'],
    [`${'a.'.repeat(127)}:7401`, 'the host is not a host name'],
    ['a\u200bb:7401', 'the host is not a host name'],
  ] as const) {
    t.throws(() => splitAddress(text), { message: new RegExp(message.replace(/[[\]().]/g, '\\$&')) }, text);
  }
});
