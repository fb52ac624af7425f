import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { APP_ID, Apps, type AppLookup } from '../../access/apps.js'
import { parseEmail } from '../../access/identity.js'
import type { TooljetEmbedWarmPair } from '../../warm.js'
import { fileError, UsageError } from '../errors.js'
import { plural } from '../text.js'
import { readCsv } from './csv.js'

const NAMES = ['email', 'appId', 'appSlug', 'app'] as const

type Row = { [name in typeof NAMES[number]]?: unknown }
type Line = { line: number } & ({ row: Row } | { problem: string })

// only to check how an app is named
const ANY_APP = new Apps(undefined, { patExpiry: 1, sessionExpiry: 1, minRemaining: 0 })

/**
 * Reads the pairs of a file, each once, and its problems, by line number and without its contents.
 * @param file '-': standard input
 * @throws UsageError when it cannot be read
 */
export async function readPairs (file: string, stdin: Readable): Promise<{ pairs: TooljetEmbedWarmPair[], problems: string[] }> {
  const text = await read(file, stdin)
  const pairs = new Map<string, TooljetEmbedWarmPair>()
  const problems: string[] = []
  for (const one of text.trimStart().startsWith('{') ? readNdjson(text) : readTable(text)) {
    try {
      if ('problem' in one) throw new Error(one.problem)
      const { key, pair } = pairOf(one.row)
      if (!pairs.has(key)) pairs.set(key, pair)
    } catch (error) {
      problems.push(`line ${one.line}: ${(error as Error).message}`)
    }
  }
  return { pairs: [...pairs.values()], problems }
}

async function read (file: string, stdin: Readable): Promise<string> {
  const name = file === '-' ? 'standard input' : file
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await buffer(file === '-' ? stdin : createReadStream(file)))
  } catch (error) {
    throw error instanceof TypeError ? new UsageError(`${name}: it is not UTF-8`) : fileError(name, error)
  }
}

function * readNdjson (text: string): Generator<Line> {
  for (const [i, json] of text.split('\n').entries()) {
    if (json.trim() === '') continue
    try {
      yield { line: i + 1, row: Object(JSON.parse(json)) as Row }
    } catch {
      yield { line: i + 1, problem: 'it is no JSON' }
    }
  }
}

function * readTable (text: string): Generator<Line> {
  let header: (keyof Row | undefined)[] | undefined
  for (const { line, fields } of readCsv(text)) {
    if (fields?.length === 1 && fields[0]!.trim() === '') continue
    if (fields === undefined) yield { line, problem: 'it is no CSV: a quote is not closed, or stands in the middle of a field' }
    else if (header === undefined) {
      header = fields.map((field) => NAMES.find((name) => name.toLowerCase() === field.trim().toLowerCase()))
      const isThere = header.includes('email') && header.some((name) => name !== undefined && name !== 'email')
      if (isThere && new Set(header.filter(Boolean)).size === header.filter(Boolean).length) continue
      yield { line, problem: 'this is to be the header: names with commas between them, "email" and one of "appId", "appSlug" and "app", each once' }
      return
    } else if (fields.length !== header.length) yield { line, problem: `it has ${plural(fields.length, 'field')}, and the header ${header.length}` }
    else yield { line, row: rowOf(header, fields) }
  }
}

function rowOf (header: readonly (keyof Row | undefined)[], fields: readonly string[]): Row {
  const cells = header.flatMap((name, i) => (name === undefined || fields[i]!.trim() === '' ? [] : [[name, fields[i]!.trim()]]))
  return Object.fromEntries(cells) as Row
}

/** @throws an error that says what is wrong */
function pairOf ({ email: given, appId, appSlug, app }: Row): { key: string, pair: TooljetEmbedWarmPair } {
  const email = parseEmail(given)
  if (email === undefined) throw new Error('"email" must be an e-mail address')
  // there are no aliases without the portal's options
  const named = app === undefined ? {} : APP_ID.test(String(app)) ? { appId: app } : { appSlug: app }
  if (app !== undefined && (appId !== undefined || appSlug !== undefined)) throw new Error('name the app by one of appId, appSlug and app')
  const lookup = { ...(appId !== undefined && { appId }), ...(appSlug !== undefined && { appSlug }), ...named } as AppLookup
  return { key: `${ANY_APP.resolve(lookup).key} ${email}`, pair: { email: String(given), ...lookup } as TooljetEmbedWarmPair }
}
