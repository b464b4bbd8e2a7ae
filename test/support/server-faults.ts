import { setTimeout as sleep } from 'node:timers/promises';
import { isFree } from '../../scripts/ports.ts';
import { isAlive, type ProcessIdentity } from '../../scripts/processes.ts';
import { mysqlInstance, startMysql } from '../../scripts/servers/mysql.ts';
import { findServerPrograms } from '../../scripts/servers/programs.ts';
import { rabbitmqInstance, startRabbitmq } from '../../scripts/servers/rabbitmq.ts';
import type { State } from '../../scripts/state.ts';

/** A private database or broker, as something to be killed and started again. */
export interface PrivateServer {
  /** The process of its last start; throws when there was none. */
  readonly process: ProcessIdentity;
  /** Ends it as a power cut would, and waits until it is gone. */
  kill(): Promise<void>;
  /** Starts it on its port and data, and waits until it serves. Does nothing while it runs. */
  start(): Promise<void>;
}

export function databaseServer(state: State): PrivateServer {
  return privateServer(
    'database',
    () => mysqlInstance(state),
    async () => {
      const { mysql } = findServerPrograms();
      if (!mysql) throw new Error('this machine has no program to run a private database');
      await startMysql(state, mysql, undefined);
    },
  );
}

/** The broker keeps new accounts and virtual hosts in memory for some two seconds: a kill so soon forgets them. */
export function brokerServer(state: State): PrivateServer {
  return privateServer(
    'broker',
    () => {
      const instance = rabbitmqInstance(state);
      return instance && { process: instance.broker, port: instance.ports.amqp };
    },
    async () => {
      const { rabbitmq, epmd } = findServerPrograms();
      if (!rabbitmq || !epmd) throw new Error('this machine has no programs to run a private broker');
      await startRabbitmq(state, { rabbitmq, epmd }, undefined);
    },
  );
}

function privateServer(
  name: string,
  find: () => { process: ProcessIdentity; port: number } | undefined,
  start: () => Promise<void>,
): PrivateServer {
  const instance = () => {
    const found = find();
    if (!found) throw new Error(`the private ${name} has not been started`);
    return found;
  };
  return {
    get process() {
      return instance().process;
    },
    async kill() {
      const { process: victim, port } = instance();
      if (isAlive(victim)) process.kill(victim.pid, 'SIGKILL');
      // A process counts as gone while the last of its threads still holds its sockets.
      while (isAlive(victim) || !(await isFree(port))) await sleep(10);
    },
    start,
  };
}
