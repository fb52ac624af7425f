import { APP_ID } from '../../../access/apps.js'
import { normalizeEmail } from '../../../access/identity.js'
import { isEmbedError, type EmbedError } from '../../../errors.js'
import { sessionRequestOf } from '../../../tooljet/access-check.js'
import type { SessionRequest } from '../../../tooljet/client.js'
import { readReply, type Reply } from '../../../tooljet/replies.js'
import { findingsOf, type Finding, type Findings } from '../finding.js'
import { NoAnswer, type ToolJetCalls } from '../tooljet-calls.js'

const { fine, note, problem } = findingsOf('tooljet')

/** Lifetime of the PATs that are minted here, seconds. */
const LIFE = 60
const BUSY = 'TOOLJET_EMBED_BUSY'

export interface People {
  /** Users whose PATs may be minted; the second shows whether one user's mint ends another's sessions. */
  users: readonly string[]
  /** A user who may not open the first app. */
  outsider: string | undefined
  /** Ids or slugs. */
  apps: readonly string[]
  embedOrigins: readonly string[]
  /** tooljet.checkAccess of the portal. */
  checksAccess: boolean
}

/** A minted URL, as it opens a session. */
type Minted = SessionRequest

/** Checks how ToolJet handles mints, with PATs of the users who were named, and only of them. */
export async function * examinePeople (calls: ToolJetCalls, people: People): Findings {
  const { users: [user], apps: [app] } = people
  if (user === undefined || app === undefined) {
    yield note('user', `without ${user === undefined ? '--user' : '--opens'} nothing was minted: users, apps, and what ToolJet does with tokens were not looked at`, 'name a user whose PATs may be minted, and an app which that user may open')
    return
  }
  try {
    yield * new Examination(calls, people, user, app).findings()
  } catch (error) {
    if (error instanceof NoAnswer) yield problem('mint', `then ${error.message}`, error.remedy)
    else if (isEmbedError(error) && error.code === BUSY) yield note('limit', `ToolJet's limit is reached, and the rest was not looked at${error.retryAfter === undefined ? '' : `; it asks for ${error.retryAfter} s`}`, 'call again later')
    else throw error
  }
}

class Examination {
  readonly #calls: ToolJetCalls
  readonly #people: People
  readonly #app: string
  /** The user as the plugin asks, or as ToolJet wants it. */
  #user: string

  constructor (calls: ToolJetCalls, people: People, user: string, app: string) {
    this.#calls = calls
    this.#people = people
    this.#user = user
    this.#app = app
  }

  async * findings (): Findings {
    const older = yield * this.#first()
    if (older === undefined) return
    yield fine('user', `ToolJet mints for ${this.#user}`)

    // before another mint can end it
    const opened = await this.#calls.session(older)
    if (isOpen(opened)) yield * this.#session(opened, older.appId)
    const newer = await this.#mintOrThrow(this.#user, this.#app)
    const sessions = [await this.#calls.session(older), await this.#calls.session(newer)] as const
    yield * this.#generation(sessions, newer)
    if (!isOpen(opened) && isOpen(sessions[1])) yield * this.#session(sessions[1], newer.appId)
    for (const app of this.#people.apps.slice(1)) yield * this.#further(app)
    yield * this.#spelling()
    yield * this.#access()
  }

  /** For the spelling that the plugin asks for, else for the one that was given. @returns what could be minted */
  async * #first (): AsyncGenerator<Finding, Minted | undefined> {
    const lowered = normalizeEmail(this.#user)
    const refused = await this.#mint(lowered, this.#app)
    if (isMinted(refused)) {
      this.#user = lowered
      return refused
    }
    if (refused.code === 'TOOLJET_EMBED_USER_NOT_FOUND' && lowered !== this.#user) {
      const again = await this.#mint(this.#user, this.#app)
      if (isMinted(again)) {
        yield note('spelling', `ToolJet knows ${this.#user} in this spelling alone: the plugin asks for ${lowered}, and then as "identity" spells it`, 'see that "identity" spells it so, or write the address in small letters at ToolJet: that saves a call of its limit')
        return again
      }
    }
    this.#user = lowered
    yield refusal(refused, this.#user, this.#app)
    return undefined
  }

  /** Checks what a newer token does to the older one. */
  async * #generation ([older, newer]: readonly [Reply, Reply], minted: Minted): Findings {
    if (isOpen(older) && isOpen(newer)) yield fine('tokens', 'a new token leaves the older ones valid')
    else if (isDead(older) && isDead(newer)) {
      yield problem('access', `ToolJet mints for ${this.#user}, and its session call refuses (${newer.status}): the user may not open ${this.#app}, or an older token is the only valid one`, 'give the user access to the app; if others lack it, too, set tooljet.checkAccess: true, so that they are told')
    } else if (isOpen(older) && isDead(newer)) {
      yield problem('tokens', 'a new token is not valid before the older one has ended', 'leave tooljet.checkAccess off: it would take that for a denial; an app stays open until its token has ended, and is opened anew then')
    } else if (isDead(older) && isOpen(newer)) yield * this.#reach(minted)
    else yield note('tokens', `the session call answers with status ${isOpen(newer) ? older.status : newer.status}, which tells nothing of tokens`)
  }

  /** Checks whose tokens a new token ends: those of this user, or of everybody. */
  async * #reach (minted: Minted): Findings {
    const [, second] = this.#people.users
    if (second === undefined) {
      yield note('tokens', 'a new token ends the older one; of the same user, or of all who have the app open?', 'a second --user tells')
      return
    }
    await this.#mintOrThrow(normalizeEmail(second), this.#app)
    const reply = await this.#calls.session(minted)
    if (isDead(reply)) yield problem('tokens', 'there is one token for each app: a mint for one user ends the sessions of all others', 'a long patExpiry makes that rare; a newer ToolJet has one for each user')
    else yield fine('tokens', 'a new token ends the older one of the same user, and of nobody else')
  }

  /** Checks a session: the unit of patExpiry, and whether the app is shown. */
  async * #session ({ body }: Reply, appId: string): Findings {
    const signedPat = fieldOf(body, 'signedPat')
    const seconds = lifeOf(signedPat)
    if (seconds !== undefined && Math.abs(seconds - LIFE) <= LIFE / 4) yield fine('unit', 'patExpiry is in seconds')
    else if (seconds !== undefined && Math.abs(seconds - 60 * LIFE) <= 15 * LIFE) yield note('unit', 'ToolJet counts patExpiry in minutes: a URL works 60 times as long as it is reused', 'nothing has to be done; a URL that leaks works longer')
    else yield note('unit', 'nothing tells whether patExpiry is in seconds or in minutes; the plugin counts seconds, which is safe in both cases')
    yield * this.#released(this.#app, appId, signedPat)
  }

  async * #released (app: string, appId: string, signedPat: string): Findings {
    const { status } = await this.#calls.releasedApp(appId, signedPat)
    if (status === 501) yield problem('app', `${app} is not released`, 'release a version of it at ToolJet')
    else if (status === 403) yield problem('app', `${app} is restricted: a session opens, and the app does not show`, 'give the user access to the app at ToolJet')
    else if (status === 200) yield fine('app', `${app} is there, and released`)
    else yield note('app', `${app} is there; whether it is released, ToolJet does not tell (status ${status})`)
  }

  async * #further (app: string): Findings {
    const minted = await this.#mint(this.#user, app)
    if (!isMinted(minted)) {
      yield refusal(minted, this.#user, app)
      return
    }
    const reply = await this.#calls.session(minted)
    if (isOpen(reply)) yield * this.#released(app, minted.appId, fieldOf(reply.body, 'signedPat'))
    else yield note('app', `${app} is there; its session call answers with status ${reply.status}`)
  }

  async * #spelling (): Findings {
    const other = this.#user.toUpperCase()
    const minted = await this.#mint(other, this.#app)
    if (isMinted(minted)) yield fine('spelling', 'addresses are found in any spelling')
    else if (minted.code === 'TOOLJET_EMBED_USER_NOT_FOUND') yield note('spelling', 'addresses are found as they are spelled at ToolJet, and the plugin asks in small letters, then as "identity" spells them', 'write them in small letters at ToolJet: that saves a call of its limit')
    else yield note('spelling', `nothing tells how addresses are compared (${minted.code})`)
  }

  /** Checks where ToolJet refuses a user who may not open an app. */
  async * #access (): Findings {
    const { outsider, checksAccess } = this.#people
    if (outsider === undefined) {
      yield note('access', 'nothing tells whether a mint looks at who may open the app', '--outsider EMAIL names a user who may not open it')
      return
    }
    const minted = await this.#mint(normalizeEmail(outsider), this.#app)
    if (!isMinted(minted)) {
      if (minted.code === 'TOOLJET_EMBED_ACCESS_DENIED') yield fine('access', 'who may not open an app is refused by the mint')
      else yield refusal(minted, outsider, this.#app)
      return
    }
    const reply = await this.#calls.session(minted)
    if (isDead(reply) && checksAccess) yield fine('access', 'who may not open an app is refused by the session call, at which tooljet.checkAccess looks')
    else if (isDead(reply)) yield problem('access', 'ToolJet mints for users who may not open the app, and refuses in the frame', 'set tooljet.checkAccess: true, so that they are told, and the audit log has it; --check-access tells that it is set')
    else if (isOpen(reply)) yield problem('access', `${outsider} may open ${this.#app}`, 'name somebody else as --outsider, or take the access away at ToolJet')
    else yield note('access', `nothing tells where access is looked at: the session call answers with status ${reply.status}`)
  }

  async #mintOrThrow (email: string, app: string): Promise<Minted> {
    const minted = await this.#mint(email, app)
    if (isMinted(minted)) return minted
    throw minted
  }

  /** @returns what was refused, but for a limit @throws NoAnswer, TOOLJET_EMBED_BUSY */
  async #mint (email: string, app: string): Promise<Minted | EmbedError> {
    const reply = await this.#calls.mint({ email, ...(APP_ID.test(app) ? { appId: app } : { appSlug: app }), patExpiry: LIFE, sessionExpiry: 1 })
    try {
      return sessionRequestOf(readReply(reply, this.#people.embedOrigins)) ?? { appId: app, accessToken: '' }
    } catch (error) {
      if (!isEmbedError(error) || error.code === BUSY) throw error
      return error
    }
  }
}

function isMinted (minted: Minted | EmbedError): minted is Minted {
  return 'accessToken' in minted
}

function isOpen ({ status }: Reply): boolean {
  return status === 200 || status === 201
}

function isDead ({ status }: Reply): boolean {
  return status === 401 || status === 403
}

function refusal ({ code, remedy }: EmbedError, user: string, app: string): Finding {
  switch (code) {
    case 'TOOLJET_EMBED_USER_NOT_FOUND': return problem('user', `ToolJet has no user ${user}`, 'create the user there, with the address in small letters')
    case 'TOOLJET_EMBED_ACCESS_DENIED': return problem('access', `${user} may not open ${app}: the mint is refused`, 'give the user access to the app at ToolJet')
    case 'TOOLJET_EMBED_APP_NOT_FOUND': return problem('app', `ToolJet has no app ${app}`, 'take the id out of the app\'s address, or its slug')
    case 'TOOLJET_EMBED_BAD_REQUEST': return problem('user', `ToolJet does not take ${user} for an address, or ${app} for an app`, 'correct what was given')
    default: return problem('mint', `no mint for ${user} and ${app}: ${code}`, remedy)
  }
}

function fieldOf (body: string, name: string): string {
  try {
    return String((JSON.parse(body) as Record<string, unknown> | null)?.[name] ?? '')
  } catch {
    return ''
  }
}

/** Seconds until a JWT ends. */
function lifeOf (jwt: string): number | undefined {
  try {
    const { exp } = JSON.parse(Buffer.from(jwt.split('.')[1]!, 'base64url').toString()) as { exp?: number }
    return typeof exp === 'number' ? exp - Date.now() / 1000 : undefined
  } catch {
    return undefined
  }
}
