import { AuditKeys } from '../../../audit/audit-keys.js'
import type { LogWitness, LogSummary } from '../../../audit/log-witness.js'
import { entryPagesReadOnly } from '../../../audit/entry-pages.js'
import { EventSigner } from '../../../audit/signer.js'
import { streamInfo } from '../../../audit/stream-info.js'
import type { AuditProblem, AuditReport } from '../../../audit/report.js'
import { verifyAudit, type AuditSource, type RawEntry } from '../../../audit/verify.js'
import { IndexWitness } from '../../../audit/verify-indexes.js'
import { deriveKeys } from '../../../crypto/secret-keys.js'
import { MS_PER_DAY } from '../../../durations.js'
import type { Context } from '../command.js'
import type { Connection } from '../../connection.js'
import { EXIT, UsageError } from '../../errors.js'
import { days, wholeNumber } from '../../options.js'
import type { Output } from '../../output.js'
import { Progress } from '../progress.js'
import { secretsOf } from '../../secrets.js'
import { Table, type Column } from '../table.js'
import { grouped, jsonLine, plural } from '../../text.js'

const COLUMNS: Column<AuditProblem>[] = [
  { title: 'PROBLEM', cell: ({ kind }) => kind, style: () => 'red' },
  { title: 'INSTANCE', cell: ({ instance }) => instance ?? '' },
  { title: 'SEQ', cell: ({ seq }) => String(seq ?? ''), alignRight: true },
  { title: 'ID', cell: ({ id }) => id ?? '' },
  { title: 'DETAIL', cell: ({ detail }) => detail, min: 16 },
]
const UNWITNESSED = 'no event of this log is in the files of --log: nothing was held against it'

/** Checks the whole log. */
export async function verify ({ given, stream, out, env, connect }: Context): Promise<number> {
  const secrets = secretsOf(given, env)
  if (secrets.length === 0) throw new UsageError('verify needs the key that the plugin has: in --key-file, TOOLJET_EMBED_ENCRYPTION_KEY or TOOLJET_API_TOKEN')
  const [keptDays, maxEntries] = [days(given, 'retention'), wholeNumber(given, 'max-entries', 0)]
  const retention = { ...(keptDays !== undefined && { retentionMs: keptDays * MS_PER_DAY }), ...(maxEntries !== undefined && { maxEntries }) }
  const signer = new EventSigner(await deriveKeys(secrets, 'audit'), given.name ?? stream)
  const log = given.log && await witnessOf(given.log, signer, out)

  const connection = await connect()
  const total = out.showsProgress ? Number(await connection.call('XLEN', stream)) : undefined
  const indexes = new IndexWitness(new AuditKeys(stream), async (script, keys, args) => (await script.runReadOnly(connection, keys, [0, ...args]) as unknown[]).slice(1))
  const report = await verifyAudit(sourceOf(connection, stream, new Progress(out, 'verified', total)), signer, { retention, witnesses: [indexes, ...log ? [log] : []] })
  if (report.entries === 0 && report.ok) {
    out.note(`there is no event in ${stream}: nothing to verify`)
    return EXIT.notIntact
  }
  if (given.json === undefined) await showForPeople(report, log?.summary, out)
  else await showAsJson(report, log?.summary, out)
  showHints(report, out)
  const isUnwitnessed = log?.summary.events === 0
  // not where nothing else is wrong: it was taken for the verdict
  if (isUnwitnessed && !isWrongKey(report) && (!report.ok || given.json !== undefined)) out.note(UNWITNESSED)
  return report.ok && !isUnwitnessed ? EXIT.fine : EXIT.notIntact
}

async function witnessOf (files: readonly string[], signer: EventSigner, out: Output): Promise<LogWitness> {
  const [{ LogWitness }, { readLog }] = await Promise.all([import('../../../audit/log-witness.js'), import('../log-file.js')])
  const witness = new LogWitness(signer)
  const progress = new Progress(out, 'read')
  for (const file of files) await readLog(file, (chunks) => witness.read(chunks, (events) => progress.add(events)))
  progress.end()
  const { invalid } = witness.summary
  if (invalid > 0) out.note(`${plural(invalid, 'line')} of --log ${invalid === 1 ? 'has' : 'have'} an event that is not valid here, and ${invalid === 1 ? 'was' : 'were'} skipped: of another stream or key, cut off, or changed`)
  return witness
}

function sourceOf (connection: Connection, stream: string, progress: Progress): AuditSource {
  return {
    async * pages (): AsyncGenerator<RawEntry[]> {
      for await (const page of entryPagesReadOnly(connection, stream)) {
        progress.add(page.length)
        yield page
      }
      progress.end()
    },
    info: () => streamInfo(connection, stream),
    async now () {
      const [seconds] = await connection.call('TIME') as [string]
      return Number(seconds) * 1000
    },
  }
}

async function showForPeople (report: AuditReport, log: LogSummary | undefined, out: Output): Promise<void> {
  const { ok, events, entries, instances, problems, problemCount } = report
  const isKeyWrong = isWrongKey(report)
  if (problems.length > 0 && !isKeyWrong) await out.write(new Table(COLUMNS, out).lines(problems))
  const trimmed = instances.filter(({ trimmed }) => trimmed).length
  const facts = [
    `${plural(events, 'event')} of ${plural(instances.length, 'instance')}`,
    ...entries === events ? [] : [`${plural(entries - events, 'other entry', 'other entries')}`],
    ...report.late > 0 ? [`${plural(report.late, 'event')} written more than a minute late`] : [],
    ...trimmed > 0 ? [`${plural(trimmed, 'instance')} whose first events are no longer in the log`] : [],
    `${plural(instances.filter(({ closed }) => !closed).length, 'instance')} not closed`,
    ...log === undefined ? [] : [`${plural(log.events, 'event')} of ${plural(log.instances, 'instance')} in the app's log`],
  ]
  const failure = isKeyWrong ? `NOT verified: ${problems[0]!.detail}` : !ok ? `NOT intact: ${plural(problemCount, 'problem')}` : log?.events === 0 ? `NOT verified: ${UNWITNESSED}` : undefined
  const verdict = failure === undefined
    ? out.styled('green', 'intact: nothing is missing, changed, forged, doubled or out of order; indexes and counters fit')
    : out.styled('red', failure)
  await out.write(`${facts.join(', ')}\n${spanOf(report)}\n${verdict}\n`)
}

/** Whether no entry has a mac of this key. */
function isWrongKey ({ problems }: AuditReport): boolean {
  return problems.length === 1 && problems[0]!.kind === 'key'
}

/** Time range and retention of the log. */
function spanOf ({ since = 'no event', until = 'no event', trimmed, problems, retention: { retentionMs, maxEntries }, retentionAssumed }: AuditReport): string {
  // Redis counts trimmed and deleted entries together
  const gone = problems.some(({ kind }) => kind === 'deleted') ? 'trimmed or deleted' : 'trimmed'
  const lost = trimmed === undefined ? 'Redis does not tell how many entries were trimmed' : `${plural(trimmed, 'entry', 'entries')} ${gone}`
  const time = retentionMs === 0 ? 'for ever' : `for ${plural(retentionMs / MS_PER_DAY, 'day')}`
  const kept = `kept ${time}, ${maxEntries === 0 ? 'any number of' : `the newest ${grouped(maxEntries)}`} entries`
  return `since ${since}, newest ${until}, ${lost}; ${retentionAssumed ? 'no event tells the retention, taken to be ' : ''}${kept}`
}

async function showAsJson ({ problems, problemCount, ...report }: AuditReport, log: LogSummary | undefined, out: Output): Promise<void> {
  await out.write(problems.map(jsonLine).join(''))
  await out.write(jsonLine({ ...report, ok: report.ok && log?.events !== 0, problems: problemCount, ...(log && { log }) }))
}

function showHints ({ problems, problemCount, instances, retentionAssumed }: AuditReport, out: Output): void {
  if (problemCount > problems.length) out.note(`these are the first ${grouped(problems.length)} of ${grouped(problemCount)} problems`)
  const verified = new Set(instances.map(({ instance }) => instance))
  const others = new Set(problems.flatMap(({ kind, instance }) => (kind === 'forged' && instance !== undefined && !verified.has(instance) ? [instance] : [])))
  if (retentionAssumed && instances.some(({ trimmed }) => trimmed)) out.note('no audit.opened tells what was kept: say it with --retention and --max-entries, or give the app\'s log with --log')
  if (verified.size > 0 && others.size > 0) {
    out.note(`not one event of ${plural(others.size, 'instance')} has a mac of this key (${[...others].slice(0, 3).join(', ')}${others.size > 3 ? ', …' : ''}): registrations which share a stream need a common encryptionKey, else somebody forged these`)
  }
}
