import type { AuditEntry } from '../audit/event.js'
import type { AuditFilters } from '../audit/reader.js'
import type { Given } from './options.js'

/** What the queries inside Redis are to look for: they check the values. */
export function filtersOf (given: Given): AuditFilters {
  const { email, app, event, outcome, code, ip, since, until } = given
  const filters = { email, app, event, outcome, code, ip, url_id: given['url-id'], since, until }
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined)) as AuditFilters
}

/**
 * Whether an event is what the filters, but for the times, ask for: as the queries inside Redis see it.
 * @param emails under which the user may be in the log; none: any user
 */
export function isMatch ({ fields }: AuditEntry, { app, event, outcome, code, ip, url_id: urlId }: AuditFilters, emails: readonly string[]): boolean {
  return (emails.length === 0 || emails.includes(fields['email'] ?? '')) &&
    (code === undefined || fields['code'] === code || fields['code'] === `TOOLJET_EMBED_${code}`) &&
    Object.entries({ app, event, outcome, ip, url_id: urlId }).every(([name, value]) => value === undefined || fields[name] === value)
}
