import type { User } from '../access/identity.js'

/** The spelling of a user's e-mail that ToolJet is asked for first. */
export interface Spelling {
  email: string
  /** ToolJet knew none of the others a moment ago. */
  isLast: boolean
  /** Of a mint that has been counted, and waits for its turn to be made in this spelling. */
  mintId?: string | undefined
}

/** In one mint ToolJet is asked for so many at most. */
const MOST = 2

/**
 * In which spellings ToolJet is asked for a user. It may compare e-mails with regard to case: where it knows no user by the
 * normalized e-mail, it may by that of the identity. What worked comes first from then on.
 */
export class Spellings {
  /** Counts once for the user's limit of mints, however many requests it takes. */
  readonly mintId: string
  readonly #email: string
  readonly #keep: (spelling: Spelling) => void
  readonly #left: string[]
  #kept: Spelling | undefined

  /** @param kept by an earlier mint @param keep takes what is to be kept for the next one */
  constructor ({ email, spelling }: User, mintId: string, kept: Spelling | undefined, keep: (spelling: Spelling) => void) {
    this.#email = email
    this.#keep = keep
    this.#kept = kept
    this.mintId = kept?.mintId ?? mintId
    this.#left = kept?.isLast === true ? [kept.email] : [...new Set([kept?.email ?? email, email, spelling])].slice(0, MOST)
  }

  get current (): string {
    return this.#left[0]!
  }

  get isLast (): boolean {
    return this.#left.length === 1
  }

  /** ToolJet is called: another mint counts again. */
  begins (): void {
    if (this.#kept?.mintId !== undefined) this.#keepFirst({ ...this.#kept, mintId: undefined })
  }

  /** ToolJet knows the user by the current one. */
  accepted (): void {
    if (this.#kept !== undefined || this.current !== this.#email) this.#keepFirst({ email: this.current, isLast: false })
  }

  /** ToolJet does not know the user by the current one. @returns whether there is another one, which is kept in case it has to wait for its turn */
  refused (): boolean {
    if (!this.isLast) {
      this.#left.shift()
      this.#keepFirst({ email: this.current, isLast: true, mintId: this.mintId })
      return true
    }
    if (this.#kept !== undefined) this.#keepFirst({ email: this.#email, isLast: false })
    return false
  }

  #keepFirst (spelling: Spelling): void {
    this.#kept = spelling
    this.#keep(spelling)
  }
}
