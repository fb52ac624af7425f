import type { MintLimit } from '../../plugin/tooljet/mint-limit.js'
import type { AuditFields } from '../../plugin/audit/event.js'
import type { Traffic } from './client.js'

/** How an app is asked for: `id:…`, `slug:…`, and by its alias where `apps` has it. */
export interface AppNaming {
  /** ToolJet's own, whichever name is used. */
  app: string
  name: string
}

export interface Answer {
  redirectUrl: string
  urlId: string
  source: 'minted' | 'reused'
  expiresIn: number
}

/** One request to an instance; times are virtual ms. */
export interface RequestRecord extends AppNaming {
  id: number
  /** Of which process; one that was started again is another one. */
  process: string
  user: string
  replaces: string | undefined
  begin: number
  end?: number
  answer?: Answer
  /** Code of the error, or the message of one that has none. */
  code?: string
}

export interface ForgetRecord {
  id: number
  process: string
  user: string
  /** `undefined`: all of the user's. */
  app: AppNaming | undefined
  begin: number
  end?: number
  code?: string
}

/** One call of ToolJet's mint API. */
export interface MintRecord extends AppNaming {
  id: number
  process: string
  user: string
  begin: number
  /** When the instance had the reply, or gave up. */
  end?: number
  /** When ToolJet made the token. */
  mintedAt?: number
  token?: string
  /** In a spelling in which ToolJet knows nobody. */
  isMisspelled?: true
  outcome?: 'minted' | 'denied' | 'misspelled' | 'paused' | 'failed' | 'given up'
  /** ms, of a 429 or 503 that asks for a pause. */
  pauseMs?: number
  /** Begins of all requests of this process for this pair that were open when the call began. */
  openSince: number
}

export interface ProcessRecord {
  name: string
  /** Of the settings. */
  slot: number
  startedAt: number
  crashedAt?: number
  stalls: { from: number, to: number }[]
  traffic: Traffic
  /** Its audit events in their order, as its log has them. */
  events: EventRecord[]
}

/** An audit event. */
export interface EventRecord {
  at: number
  fields: AuditFields
  /** The log says that it did not get into the stream. */
  isLost?: true
}

export interface History {
  settings: Settings
  requests: RequestRecord[]
  forgets: ForgetRecord[]
  mints: MintRecord[]
  processes: ProcessRecord[]
  /** When Redis lost all, or was put back to the state of an earlier moment. */
  losses: { at: number, to: number }[]
  /** Redis stood still. */
  freezes: { from: number, to: number }[]
  /** The audit stream at the end. */
  stream: AuditFields[]
  /** Virtual end of the run. */
  end: number
  /** Errors that nobody caught. */
  uncaught: string[]
}

/** The options of a schedule, the same for all instances. */
export interface Settings {
  /** Seconds. */
  patExpiry: number
  /** Seconds. */
  minRemaining: number
  max: number
  mints: number
  /** ms */
  timeWindow: number
  mintLimit: MintLimit
  onRedisDown: 'serve' | 'fail'
  redisTimeoutMs: number
  tooljetTimeoutMs: number
  /** Identities are spelled with capitals, and ToolJet knows the users in this spelling alone. */
  hasCapitals?: boolean
}

/** A user's e-mail as `hasCapitals` has it. */
export function inCapitals (user: string): string {
  return user[0]!.toUpperCase() + user.slice(1)
}

export const APPS: readonly AppNaming[] = [
  { app: '11111111-1111-4111-8111-111111111111', name: 'id:11111111-1111-4111-8111-111111111111' },
  { app: '11111111-1111-4111-8111-111111111111', name: 'slug:sales' },
  { app: '22222222-2222-4222-8222-222222222222', name: 'id:22222222-2222-4222-8222-222222222222' },
]
export const SLUGS: Readonly<Record<string, string>> = {
  '11111111-1111-4111-8111-111111111111': 'sales',
  '22222222-2222-4222-8222-222222222222': 'stock',
}
