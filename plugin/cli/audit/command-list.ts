import type { Command } from './command.js'
import type { OptionName } from '../options.js'

/** Options for the key: of a log with pseudonyms, or for checking macs. */
const KEYS: OptionName[] = ['key-file', 'name']
const REDIS: OptionName[] = ['redis', 'stream']
const FILTERS: OptionName[] = ['email', 'app', 'event', 'outcome', 'code', 'ip', 'url-id', 'since', 'until']

export const COMMANDS: Record<string, Command> = {
  query: {
    summary: 'events by user, app, outcome, address, time',
    about: 'shows events, the newest first. All filters that are given have to match.',
    options: [...FILTERS, 'limit', 'order', 'after', 'json', ...KEYS, ...REDIS],
    examples: [
      { what: 'who opened the payroll app on that day, from where, and who was refused', line: 'query --app payroll --since 2026-01-13 --until 2026-01-14' },
      { what: 'one user\'s last week', line: 'query --email ana@acme.io --since 7d' },
      { what: 'refusals of the last hour, for other programs', line: 'query --outcome failure --since 1h --limit 1000 --json' },
    ],
    load: async () => (await import('./commands/query.js')).query,
  },
  tail: {
    summary: 'events as they happen',
    about: 'shows events as they happen, until Ctrl-C. A connection that is lost is made again, and no event is missed or shown twice.',
    options: [...FILTERS.filter((name) => name !== 'until'), 'last', 'json', ...KEYS, ...REDIS],
    examples: [
      { what: 'refusals, after the newest 20 of them', line: 'tail --outcome failure --last 20' },
      { what: 'everything of one app since this morning', line: 'tail --app payroll --since 8h' },
    ],
    load: async () => (await import('./commands/tail.js')).tail,
  },
  stats: {
    summary: 'counts, reuse rate and users by user, app, event, code, hour, or two of them',
    about: 'counts events: how many URLs were minted, reused and refused, which part was reused, and with filters or --users for how many users. Without filters the answer comes from counters, by whole hours.',
    options: ['by', 'users', ...FILTERS, 'json', ...KEYS, ...REDIS],
    examples: [
      { what: 'which apps are used', line: 'stats --by app --since 30d' },
      { what: 'how many URLs per hour and app this week', line: 'stats --by hour,app --since 7d' },
      { what: 'refusals by reason', line: 'stats --by code --outcome failure --since 24h' },
      { what: 'one user\'s day', line: 'stats --by hour --email ana@acme.io --since 24h' },
    ],
    load: async () => (await import('./commands/stats.js')).stats,
  },
  reindex: {
    summary: 'makes indexes and counters anew',
    about: 'makes the indexes by user and app anew, and the counters of the hours that are wholly in the log, when a query or verify says so. The plugin goes on writing meanwhile. Needs a Redis user who may write.',
    options: REDIS,
    examples: [{ what: 'after "index incomplete"', line: 'reindex' }],
    load: async () => (await import('./commands/reindex.js')).reindex,
  },
  verify: {
    summary: 'proves that nothing is missing, changed, forged or doubled',
    about: 'checks every event\'s mac, and for each instance of the plugin that none is missing, doubled or out of order; with --log also that the app\'s log has the same events. Needs the key.',
    options: ['log', 'retention', 'max-entries', 'json', ...KEYS, ...REDIS],
    examples: [
      { what: 'with the key in a file, or in TOOLJET_EMBED_ENCRYPTION_KEY', line: 'verify --key-file /run/secrets/tooljet-embed-key' },
      { what: 'against the app\'s log, which nobody can change who has but Redis\'s password', line: 'verify --log /var/log/portal/*.log.gz' },
      { what: 'a log that was renamed', line: 'verify --stream archive:{tooljet-embed:audit}:2026 --name tooljet-embed:audit' },
      { what: 'what is wrong, for other programs', line: 'verify --json' },
    ],
    load: async () => (await import('./commands/verify.js')).verify,
  },
  export: {
    summary: 'NDJSON or ECS for a SIEM, to go on where it ended',
    about: 'writes events as lines of JSON, the oldest first: { id, ...fields }, or mapped to the Elastic Common Schema. To go on later give the last id, or the same file, which may have been rotated meanwhile.',
    options: [...FILTERS, 'format', 'after', 'out', 'state', ...KEYS, ...REDIS],
    examples: [
      { what: 'every minute: what is new', line: 'export --out /var/log/tooljet-embed/audit.ndjson' },
      { what: 'the same for Elasticsearch', line: 'export --format ecs --out /var/log/tooljet-embed/audit.ecs.ndjson' },
      { what: 'what came after an event', line: 'export --after 1767225600000-0' },
      { what: 'the refusals of January', line: 'export --outcome failure --since 2026-01-01 --until 2026-02-01' },
    ],
    load: async () => (await import('./commands/export.js')).exportEvents,
  },
}
