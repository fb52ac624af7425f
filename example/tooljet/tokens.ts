import { randomBytes } from 'node:crypto'

/** What a new token does to older ones: four generations of ToolJet, or of its documentation, differ here. */
export type TokenMode = 'insert' | 'replace' | 'keep' | 'per-app'

export interface Token {
  token: string
  email: string
  appId: string
  /** Milliseconds since 1970. */
  mintedAt: number
  expiresAt: number
  /** Minutes. */
  sessionExpiry: number
  /** Why it does not open anything (any more), but for its expiry. */
  dead?: 'replaced' | 'never valid'
}

/** The table of personal access tokens. */
export class Tokens {
  readonly #mode: TokenMode
  readonly #rows = new Map<string, Token>()

  constructor (mode: TokenMode) {
    this.#mode = mode
  }

  get all (): Token[] {
    return [...this.#rows.values()]
  }

  mint (email: string, appId: string, lifeMs: number, sessionExpiry: number): Token {
    const now = Date.now()
    const token: Token = { token: `pat_${randomBytes(24).toString('hex')}`, email, appId, mintedAt: now, expiresAt: now + lifeMs, sessionExpiry }
    const alive = this.all.filter((row) => this.isAlive(row.token))
    const ofPair = alive.filter((row) => row.email === email && row.appId === appId)
    if (this.#mode === 'keep' && ofPair.length > 0) token.dead = 'never valid'
    if (this.#mode === 'replace') for (const row of ofPair) row.dead = 'replaced'
    if (this.#mode === 'per-app') for (const row of alive) if (row.appId === appId) row.dead = 'replaced'
    this.#rows.set(token.token, token)
    return token
  }

  find (token: string): Token | undefined {
    return this.#rows.get(token)
  }

  isAlive (token: string, at = Date.now()): boolean {
    const row = this.#rows.get(token)
    return row !== undefined && row.dead === undefined && row.expiresAt > at
  }

  /** Ends a token, as an administrator of ToolJet would. */
  revoke (token: string): void {
    const row = this.#rows.get(token)
    if (row !== undefined) row.dead = 'replaced'
  }

  clear (): void {
    this.#rows.clear()
  }
}
