import { Migration } from '@mikro-orm/migrations';

/** The comment is what takes the right to change or delete rows from the service's database user. */
export class Migration20261124100000_append_only extends Migration {
  override up(): void {
    this.addSql(`alter table order_event comment = 'append-only: the history of orders'`);
  }
}
