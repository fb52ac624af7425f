/* Preloaded: this process's wall clock is wrong by SHIFT_MS, its monotonic clock is not. */

const shift = Number(process.env['SHIFT_MS'])
const RealDate = Date
globalThis.Date = class ShiftedDate extends RealDate {
  constructor (...args: [] | [number]) {
    if (args.length === 0) super(RealDate.now() + shift)
    else super(...args)
  }

  static override now (): number {
    return RealDate.now() + shift
  }
} as DateConstructor
