import { setTimeout as sleep } from 'node:timers/promises';
import { isFree } from '../../scripts/devmesh/ports.ts';
import { isAlive, type ProcessIdentity, stop } from '../../scripts/devmesh/processes.ts';
import { mysqlInstance, startMysql } from '../../scripts/devmesh/servers/mysql.ts';
import { findServerPrograms } from '../../scripts/devmesh/servers/programs.ts';
import { evaluateInBroker, rabbitmqInstance, startRabbitmq } from '../../scripts/devmesh/servers/rabbitmq.ts';
import type { State } from '../../scripts/devmesh/state.ts';

/** A private database or broker that can be killed and started again. */
export interface PrivateServer {
  /** The process of its last start. Throws if there was none. */
  readonly process: ProcessIdentity;
  /** Ends it as a power failure would, and waits until it is gone. */
  kill(): Promise<void>;
  /** Shuts it down normally, and waits until it is gone. */
  stop(): Promise<void>;
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

/** The broker keeps new accounts and virtual hosts in memory for about two seconds: a kill in that time loses them. */
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

/** A server that exceeds the grace period would be killed, which is a different fault. */
const stopGraceMs = 60_000;

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
  // The kernel may report a process as gone while a last thread still holds its sockets.
  const gone = async () => {
    const { process: victim, port } = instance();
    while (isAlive(victim) || !(await isFree(port))) await sleep(10);
  };
  return {
    get process() {
      return instance().process;
    },
    async kill() {
      const { process: victim } = instance();
      if (isAlive(victim)) process.kill(victim.pid, 'SIGKILL');
      await gone();
    },
    async stop() {
      await stop(instance().process, stopGraceMs);
      await gone();
    },
    start,
  };
}

/** What a broker can be short of. */
export type Resource = 'memory' | 'disk';

const shortage: Readonly<Record<Resource, { begin: string; end: string }>> = {
  memory: {
    begin: 'rpc:call(N, vm_memory_monitor, set_vm_memory_high_watermark, [0.00001])',
    end: 'rpc:call(N, vm_memory_monitor, set_vm_memory_high_watermark, [0.9])',
  },
  disk: {
    begin: 'rpc:call(N, rabbit_disk_monitor, set_disk_free_limit, ["1000000GB"])',
    end: 'rpc:call(N, rabbit_disk_monitor, set_disk_free_limit, ["1MB"])',
  },
};

/** Makes the private broker believe that it is short of a resource: from then on it blocks publishers. */
export const raiseAlarm = (state: State, resource: Resource): Promise<void> =>
  tellBroker(state, shortage[resource].begin);
export const clearAlarm = (state: State, resource: Resource): Promise<void> =>
  tellBroker(state, shortage[resource].end);

async function tellBroker(state: State, expression: string): Promise<void> {
  const value = await evaluateInBroker(state, expression);
  if (value !== 'ok') throw new Error(`the broker returned ${value}`);
}
