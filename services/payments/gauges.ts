import type { Database } from '@armature/runtime';
import { Gauge, type Registry } from '@armature/runtime/telemetry';
import { trialTotals } from './ledger-service.ts';
import { readBalances } from './ledger-store.ts';
import { operatorBacklog } from './operation-store.ts';
import type { PaymentStore } from './store.ts';

/** Gauges of the ledger's balance and of operations without an outcome. Read from the database on each scrape. */
export function paymentGauges(db: Database, store: PaymentStore, registry: Registry): void {
  const registers = [registry];
  new Gauge({
    name: 'armature_ledger_difference_minor',
    help: 'Debits minus credits of the whole book, per currency; anything but zero is an incident',
    labelNames: ['currency'],
    registers,
    async collect() {
      for (const total of trialTotals(await db.read(null, (sql) => readBalances(sql)))) {
        this.set({ currency: total.currencyCode }, Number(total.differenceMinor));
      }
    },
  });
  const longest = new Gauge({
    name: 'armature_payment_operations_operator_oldest_seconds',
    help: 'How long the oldest operation has needed an operator',
    registers,
  });
  new Gauge({
    name: 'armature_payment_operations_operator',
    help: 'Operations that only an operator can end: refused refunds and voids, and those too old to be sent again',
    registers,
    async collect() {
      const { count, oldestSeconds } = await db.read(null, operatorBacklog);
      this.set(count);
      longest.set(oldestSeconds);
    },
  });
  const oldest = new Gauge({
    name: 'armature_payment_operations_oldest_age_seconds',
    help: 'Age of the oldest operation without an outcome',
    registers,
  });
  new Gauge({
    name: 'armature_payment_operations_pending',
    help: 'Operations without an outcome',
    registers,
    async collect() {
      const { count, oldestSeconds } = await db.read(null, (sql) => store.pendingOperations(sql));
      this.set(count);
      oldest.set(oldestSeconds);
    },
  });
}
