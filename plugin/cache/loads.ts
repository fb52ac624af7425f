import { concerns } from './cached-url.js'

/** Who loads, and what has been forgotten of this user since it began. */
export interface Load {
  readonly user: string
  readonly app: { readonly key: string }
  readonly forgotten: string[]
}

/** The loads of this process, from asking for the lock to having a URL: requests for the same user and app join one. */
export class Loads<Result> {
  /** Those that can be joined. */
  readonly #open = new Map<string, Promise<Result>>()
  readonly #all = new Set<Load>()

  /** One to join, if there is one. */
  find (of: Pick<Load, 'user' | 'app'>): Promise<Result> | undefined {
    return this.#open.get(loadKey(of))
  }

  /** Begins one, which others join until it ends or is closed. */
  start<L extends Load> (load: L, run: (load: L) => Promise<Result>): Promise<Result> {
    const name = loadKey(load)
    this.#all.add(load)
    const result = run(load).finally(() => {
      this.#all.delete(load)
      if (this.#open.get(name) === result) this.#open.delete(name)
    })
    this.#open.set(name, result)
    return result
  }

  /** Nobody joins those of this user and app from now on. */
  close (of: Pick<Load, 'user' | 'app'>): void {
    this.#open.delete(loadKey(of))
  }

  /** Nobody joins any of them from now on. */
  closeAll (): void {
    this.#open.clear()
  }

  /** Nobody joins those of this user from now on. @param names of apps that are forgotten: their URLs are not kept */
  forget (user: string, names: readonly string[] = []): void {
    for (const name of this.#open.keys()) {
      if (name.startsWith(`${user} `)) this.#open.delete(name)
    }
    for (const load of this.#all) if (load.user === user) load.forgotten.push(...names)
  }
}

/** Whether a URL with these names was forgotten while it was minted. */
export function isForgotten ({ forgotten }: Load, names: readonly string[]): boolean {
  return forgotten.some((name) => concerns(names, name))
}

function loadKey ({ user, app }: Pick<Load, 'user' | 'app'>): string {
  return `${user} ${app.key}`
}
