import type { User } from '../access/identity.js'

/** The spelling of a user's e-mail that ToolJet is asked for first. */
export interface Spelling {
  email: string
  /** ToolJet knew none of the others a moment ago. */
  isLast: boolean
}

/** In one mint ToolJet is asked for so many at most. */
const MOST = 2

/**
 * In which spellings ToolJet is asked for a user. It may compare e-mails with regard to case: where it knows no user by the
 * normalized e-mail, it may by that of the identity. What worked comes first from then on.
 */
export class Spellings {
  readonly #email: string
  readonly #keep: (spelling: Spelling) => void
  readonly #left: string[]
  #hasKept: boolean

  /** @param kept by an earlier mint @param keep takes what is to be kept for the next one */
  constructor ({ email, spelling }: User, kept: Spelling | undefined, keep: (spelling: Spelling) => void) {
    this.#email = email
    this.#keep = keep
    this.#hasKept = kept !== undefined
    this.#left = kept?.isLast === true ? [kept.email] : [...new Set([kept?.email ?? email, email, spelling])].slice(0, MOST)
  }

  get current (): string {
    return this.#left[0]!
  }

  get isLast (): boolean {
    return this.#left.length === 1
  }

  /** ToolJet knows the user by the current one. */
  accepted (): void {
    if (this.#hasKept || this.current !== this.#email) this.#keepFirst(this.current, false)
  }

  /** ToolJet does not know the user by the current one. @returns whether there is another one, which is kept in case it has to wait for its turn */
  refused (): boolean {
    if (!this.isLast) {
      this.#left.shift()
      this.#keepFirst(this.current, true)
      return true
    }
    if (this.#hasKept) this.#keepFirst(this.#email, false)
    return false
  }

  #keepFirst (email: string, isLast: boolean): void {
    this.#hasKept = true
    this.#keep({ email, isLast })
  }
}
