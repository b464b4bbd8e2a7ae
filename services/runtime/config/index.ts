export { type Address, joinAddress, splitAddress } from './address.ts';
export { ConfigError, peer, readConfig, text } from './config.ts';
