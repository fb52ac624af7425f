import type { AuditEntry } from '../../audit/event.js'
import type { AuditFilters } from '../../audit/reader.js'
import { fullCode } from './codes.js'
import { UsageError } from '../errors.js'
import type { ParsedOptions } from '../options.js'
import type { Output } from '../output.js'
import { parseTime, TIMES, type Moment } from '../times.js'

/**
 * Converts the options that people may write in several ways to the form of the queries. A time that was read in the
 * machine's time zone is reported in UTC.
 * @throws UsageError for an invalid time, or when --until is not after --since
 */
export function resolveFilters (given: ParsedOptions, out: Output, now = new Date()): ParsedOptions {
  const resolved = { ...given }
  if (given.code !== undefined) resolved.code = fullCode(given.code)
  const since = momentOf(given, 'since', now)
  const until = momentOf(given, 'until', now)
  if (since && until && until.ms <= since.ms) throw new UsageError(`--until ${describeMoment(given.until!, until)} is not after --since ${describeMoment(given.since!, since)}, nothing is between them`)
  for (const [name, moment] of [['since', since], ['until', until]] as const) {
    if (moment === undefined || moment.isAgo) continue
    resolved[name] = new Date(moment.ms).toISOString()
    if (moment.isLocal) out.note(`--${name} ${given[name]} is ${resolved[name]}`)
  }
  return resolved
}

function momentOf (given: ParsedOptions, name: 'since' | 'until', now: Date): Moment | undefined {
  const text = given[name]
  if (text === undefined) return undefined
  const moment = parseTime(text, now)
  if (moment === undefined) throw new UsageError(`--${name} is "${text}", expected ${TIMES}`)
  return moment
}

/** The time as given, and in UTC if it was read in the machine's time zone. */
function describeMoment (text: string, { ms, isLocal }: Moment): string {
  return isLocal ? `${text} (${new Date(ms).toISOString()})` : text
}

/** Filters for the queries inside Redis, which check the values. */
export function filtersOf (given: ParsedOptions): AuditFilters {
  const { email, app, event, outcome, code, ip, since, until } = given
  const filters = { email, app, event, outcome, code, ip, url_id: given['url-id'], since, until }
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined)) as AuditFilters
}

/**
 * Whether an event matches the filters, without the times, by the same rules as the queries inside Redis.
 * @param emails under which the user may be in the log; none: any user
 */
export function isMatch ({ fields }: AuditEntry, { app, event, outcome, code, ip, url_id: urlId }: AuditFilters, emails: readonly string[]): boolean {
  return (emails.length === 0 || emails.includes(fields['email'] ?? '')) &&
    Object.entries({ app, event, outcome, code, ip, url_id: urlId }).every(([name, value]) => value === undefined || fields[name] === value)
}
