// What every service must do alike, in one mesh. Each of these files also runs alone. bad-input.ts is the first, since it
// compares snapshots of data that only its own requests may change. The others may prepare nothing before their tests.
await import('./mesh/bad-input.ts');
await import('./mesh/access.ts');
await import('./mesh/reflection.ts');
await import('./mesh/erasure.ts');

export {};
