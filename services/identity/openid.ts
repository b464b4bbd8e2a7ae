// Everything that stands on the OpenID library. It is loaded at the first sign-in, because it weighs some 25 MB
// and an instance that only keeps accounts and publishes keys does without.
export { adapters } from './adapter.ts';
export { interactions } from './interactions.ts';
export { openProvider } from './provider.ts';
