import type { User } from '../access/identity.js'

/** The spelling of a user's e-mail that ToolJet is asked for first. */
export interface Spelling {
  email: string
  /** ToolJet knew none of the others, and has not been asked for this one yet. */
  isLast: boolean
  /** It has been counted, and waits for its turn. */
  waiting?: Mint | undefined
}

/** A mint as the user's limit counts it: once, however many requests it takes. */
interface Mint {
  id: string
  /** Key of the app. */
  app: string
}

/**
 * In which spellings ToolJet is asked for a user. It may compare e-mails with regard to case: where it knows no user by the
 * normalized e-mail, it may by that of the identity. What worked comes first from then on.
 */
export class Spellings {
  readonly #email: string
  readonly #before: Spelling | undefined
  readonly #keep: (spelling: Spelling | undefined) => void
  readonly #left: string[]
  readonly #mint: Mint
  #kept: Spelling | undefined

  /** @param kept by an earlier mint @param keep takes what is to be kept for the next one; `undefined`: what was kept before */
  constructor ({ email, spelling }: User, mint: Mint, kept: Spelling | undefined, keep: (spelling: Spelling | undefined) => void) {
    this.#email = email
    this.#before = this.#kept = kept
    this.#keep = keep
    this.#mint = kept?.waiting?.app === mint.app ? kept.waiting : mint
    this.#left = kept?.isLast === true ? [kept.email] : [...new Set([kept?.email ?? email, email, spelling])]
  }

  get mintId (): string {
    return this.#mint.id
  }

  get current (): string {
    return this.#left[0]!
  }

  get isLast (): boolean {
    return this.#left.length === 1
  }

  /** ToolJet is called: another mint counts again. */
  begins (): void {
    if (this.#kept?.waiting === this.#mint) this.#keepFirst({ ...this.#kept, waiting: undefined })
  }

  /** ToolJet knows the user by the current one. */
  accepted (): void {
    if (this.#kept !== undefined || this.current !== this.#email) this.#keepFirst({ ...this.#kept, email: this.current, isLast: false })
  }

  /** ToolJet was called, and gave no verdict on the user: what has never worked does not come first. */
  failed (): void {
    if (this.#kept?.isLast === true && this.#before?.isLast !== true) this.#keepFirst(undefined) // another mint may have found the right one meanwhile
  }

  /** ToolJet does not know the user by the current one. @returns whether there is another one, which is kept in case it has to wait for its turn */
  refused (): boolean {
    if (!this.isLast) {
      this.#left.shift()
      this.#keepFirst({ email: this.current, isLast: this.isLast, waiting: this.#mint })
      return true
    }
    this.#keepFirst(this.#before && { email: this.#email, isLast: false })
    return false
  }

  #keepFirst (spelling: Spelling | undefined): void {
    this.#kept = spelling
    this.#keep(spelling)
  }
}
