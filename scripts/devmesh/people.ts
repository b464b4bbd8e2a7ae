import { join } from 'node:path';
import { password, type State, writeAtomically } from './state.ts';

/** A person who has an account in development. */
export interface Person {
  id: string;
  name: string;
  email: string;
  /** What deploy/policy.csv makes of them. */
  role: 'customer' | 'staff' | 'admin' | 'operator';
}

const person = (id: string, name: string, role: Person['role'] = 'customer'): Person => ({
  id,
  name,
  email: `${id}@example.org`,
  role,
});

export const people: readonly Person[] = [
  person('ada', 'Ada Lovelace'),
  person('eve', 'Eve Moneypenny'),
  person('grace', 'Grace Hopper'),
  person('alan', 'Alan Turing'),
  person('barbara', 'Barbara Liskov'),
  person('tony', 'Tony Hoare'),
  person('bo', 'Bo Derkins', 'staff'),
  person('admin', 'Admin Istrator', 'admin'),
  person('olga', 'Olga Perova', 'operator'),
];

/** Programs that sign in with a key of their own. Their accounts are made with their first token. */
export const programs = ['reports'] as const;

/** The program that people sign in to when armature asks for a token of theirs. */
export const commandLine = { clientId: 'armature-cli', redirectUri: 'http://127.0.0.1/callback' };

export const personPassword = (state: State, id: string) => password(state, `person:${id}`);

export const bootstrapFile = (state: State) => join(state.dir, 'identity', 'bootstrap.json');

/** Writes down who has an account when identity starts. It holds passwords, so only its owner may read it. */
export function writeBootstrap(state: State, file = bootstrapFile(state)): void {
  const content = {
    accounts: people.map(({ id, name, email }) => ({
      user_id: id,
      email,
      display_name: name,
      password: personPassword(state, id),
    })),
    clients: [
      {
        client_id: commandLine.clientId,
        display_name: 'Armature on the command line',
        redirect_uris: [commandLine.redirectUri],
        first_party: true,
      },
    ],
  };
  writeAtomically(file, JSON.stringify(content, null, 2), 0o600);
}
