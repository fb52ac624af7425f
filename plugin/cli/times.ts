/** Values of `--since` and `--until`, for help and messages. */
export const TIMES = 'ISO 8601 (UTC unless it has an offset), milliseconds since 1970, how long ago (90s, 30m, 24h, 7d), or a local time: 22:00, today, yesterday, "2026-11-26 22:00"'

const MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const AGO = /^(\d{1,10})([smhd])$/
const DATE = /^(?:(\d{4})-(\d\d)-(\d\d))?(?:(^|[T ])(\d{1,2}):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/
const OFFSET = /^([+-])([01]\d|2[0-3]):?([0-5]\d)$/
/** Smaller numbers may be seconds: as milliseconds they would be a time in 1970. */
const LEAST_MS = 1e11
const MOST_MS = 1e14

/** A parsed time. */
export interface Moment {
  /** Milliseconds since 1970. */
  ms: number
  /** It was read in the machine's time zone. */
  isLocal: boolean
  /** It was given as a time ago: Redis's clock decides. */
  isAgo: boolean
}

type Time = readonly [hour: number, minute: number, second: number, ms: number]

/** @returns nothing when it is not a time, or a time that does not exist */
export function parseTime (text: string, now: Date): Moment | undefined {
  const [, count, unit] = AGO.exec(text) ?? []
  if (count !== undefined) return moment(Math.max(0, now.getTime() - Number(count) * MS[unit as keyof typeof MS]), { isAgo: true })
  if (/^\d+$/.test(text)) {
    const ms = Number(text)
    return ms === 0 || (ms >= LEAST_MS && ms < MOST_MS) ? moment(ms) : undefined
  }
  const daysAgo = ['today', 'yesterday'].indexOf(text.toLowerCase())
  return daysAgo === -1 ? parseDate(text, now) : moment(midnight(now, daysAgo).getTime(), { isLocal: true })
}

function parseDate (text: string, now: Date): Moment | undefined {
  const [match, y, mo, d, separator, h = '0', mi = '0', s = '0', fraction = '0', offset] = DATE.exec(text) ?? []
  if (!match || (y === undefined && offset !== undefined)) return undefined
  const [hour, minute, second] = [Number(h), Number(mi), Number(s)]
  const isEndOfDay = hour === 24 && minute === 0 && second === 0 && Number(fraction) === 0
  if ((hour > 23 && !isEndOfDay) || minute > 59 || second > 59) return undefined
  const time: Time = [hour, minute, second, Math.round(Number(fraction) * 1000)]

  if (y === undefined) {
    const [ofToday, ofYesterday] = [0, 1].map((daysAgo) => localTime(now.getFullYear(), now.getMonth(), now.getDate() - daysAgo, time))
    // where today has no such time its hour decides whether it would be over
    const isOver = midnight(now, 0).setHours(...time) <= now.getTime()
    const last = isOver ? ofToday : ofYesterday
    return last === undefined ? undefined : moment(last, { isLocal: true })
  }
  const [year, month, day] = [Number(y), Number(mo) - 1, Number(d)]
  const date = new Date(0)
  date.setUTCFullYear(year, month, day)
  if (date.getUTCMonth() !== month || date.getUTCDate() !== day) return undefined
  // with a blank it is how people write it, with a T how programs do
  if (separator === ' ' && offset === undefined) {
    const local = localTime(year, month, day, time)
    return local === undefined ? undefined : moment(local, { isLocal: true })
  }
  const offsetMs = offset === undefined || offset === 'Z' ? 0 : msOf(offset)
  if (offsetMs === undefined) return undefined
  return moment(date.setUTCHours(...time) - offsetMs)
}

function moment (ms: number, { isLocal = false, isAgo = false } = {}): Moment {
  return { ms, isLocal, isAgo }
}

/** @returns nothing when clocks were put forward over that time */
function localTime (year: number, month: number, day: number, [hour, ...rest]: Time): number | undefined {
  const date = new Date(year, month, day, hour, ...rest)
  return date.getHours() === hour % 24 && date.getMinutes() === rest[0] ? date.getTime() : undefined
}

/** Start of a day in the machine's time zone. */
function midnight (now: Date, daysAgo: number): Date {
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - daysAgo)
}

function msOf (offset: string): number | undefined {
  const [match, sign, hours, minutes] = OFFSET.exec(offset) ?? []
  return match === undefined ? undefined : (sign === '-' ? -1 : 1) * (Number(hours) * MS.h + Number(minutes) * MS.m)
}
