import { Chain } from '../../audit/chain.js'
import { streamFacts } from '../../audit/facts.js'
import { AuditReader } from '../../audit/reader.js'
import { verifyAudit, type AuditProblem, type AuditReport } from '../../audit/verify.js'
import { deriveKeys } from '../../crypto/secret-keys.js'
import type { Context } from '../commands.js'
import { EXIT, UsageError } from '../errors.js'
import type { Output } from '../output.js'
import { Progress } from '../progress.js'
import { secretsOf } from '../secrets.js'
import { Table, type Column } from '../table.js'
import { jsonLine, plural } from '../text.js'

type Found = AuditProblem & { instance: string }

const COLUMNS: Column<Found>[] = [
  { title: 'PROBLEM', cell: ({ kind }) => kind, style: () => 'red' },
  { title: 'INSTANCE', cell: ({ instance }) => instance },
  { title: 'SEQ', cell: ({ seq }) => (Number.isNaN(seq) ? '?' : String(seq)), alignRight: true },
  { title: 'ID', cell: ({ id }) => id },
  { title: 'DETAIL', cell: ({ detail }) => detail, min: 16 },
]
const PAGE = 1000

/** Checks the whole log. */
export async function verify ({ given, stream, out, env, connect }: Context): Promise<number> {
  const secrets = secretsOf(given, env)
  if (secrets.length === 0) throw new UsageError('verify needs the key that the plugin has: in --key-file, TOOLJET_EMBED_ENCRYPTION_KEY or TOOLJET_API_TOKEN')
  const chain = new Chain(await deriveKeys(secrets, 'audit'))
  const connection = await connect()
  const total = out.showsProgress ? Number(await connection.call('XLEN', stream)) : undefined
  const progress = new Progress(out, 'verified', total)
  const report = await verifyAudit(progress.over(new AuditReader(connection, stream).entries()), chain, await streamFacts(connection, stream))
  if (report.events === 0) {
    out.note(`there is no event in ${stream}: nothing to verify`)
    return EXIT.notIntact
  }
  const problems = report.instances.flatMap(({ instance, problems }) => problems.map((problem) => ({ ...problem, instance })))
  if (given.json === undefined) await showForPeople(report, problems, out)
  else await showAsJson(report, problems, out)
  return report.ok ? EXIT.fine : EXIT.notIntact
}

async function showForPeople ({ ok, events, stream, instances }: AuditReport, problems: Found[], out: Output): Promise<void> {
  const table = new Table(COLUMNS, out)
  for (let i = 0; i < problems.length; i += PAGE) await out.write(table.lines(problems.slice(i, i + PAGE)))
  const trimmed = instances.filter(({ trimmed }) => trimmed).length
  if (stream?.deleted !== undefined) await out.write(`${out.styled('red', 'deleted')}: somebody deleted entries, the newest of them ${stream.deleted}\n`)
  const facts = [
    `${plural(events, 'event')} of ${plural(instances.length, 'instance')}`,
    ...trimmed > 0 ? [`${plural(trimmed, 'instance')} whose first events are no longer in the log`] : [],
    `${plural(instances.filter(({ closed }) => !closed).length, 'instance')} not closed`,
  ].join(', ')
  const verdict = ok ? out.styled('green', 'intact: nothing is missing, changed, forged, doubled or out of order') : out.styled('red', problems.length > 0 ? `NOT intact: ${plural(problems.length, 'problem')}` : 'NOT intact')
  await out.write(`${facts}\n${verdict}\n`)
  const checked = events - trimmed
  if (checked > 0 && problems.filter(({ kind }) => kind === 'forged').length >= checked) out.note('no mac fits: is this the key of that log?')
}

async function showAsJson ({ ok, events, stream, instances }: AuditReport, problems: Found[], out: Output): Promise<void> {
  for (let i = 0; i < problems.length; i += PAGE) {
    await out.write(problems.slice(i, i + PAGE).map(({ kind, instance, seq, id, detail }) => jsonLine({ kind, instance, seq, id, detail })).join(''))
  }
  await out.write(jsonLine({ ok, events, stream, problems: problems.length, instances: instances.map(({ problems, ...facts }) => ({ ...facts, problems: problems.length })) }))
}
