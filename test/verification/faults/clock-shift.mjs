// Loaded before a service by --import: its wall clock goes wrong by the milliseconds in this file's own URL, the
// monotonic one does not, as after a wrong setting of the machine's time.
const shiftMs = Number(new URL(import.meta.url).searchParams.get('ms'));
const RealDate = Date;

class ShiftedDate extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + shiftMs);
    else super(...args);
  }
  static now() {
    return RealDate.now() + shiftMs;
  }
}
globalThis.Date = ShiftedDate;
