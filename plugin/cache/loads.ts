import { concerns } from './cached-url.js'

/** For whom a URL is loaded, and what has been forgotten of this user since the load began. */
export interface Load {
  readonly user: string
  readonly app: { readonly key: string }
  readonly forgotten: string[]
}

/** The loads in progress in this process. Requests for the same user and app share one, as in `dedupe`. */
export class Loads<Result> {
  /** Loads that further requests may join. */
  readonly #open = new Map<string, Promise<Result>>()
  readonly #all = new Set<Load>()

  /** A load that may be joined, if there is one. */
  find (of: Pick<Load, 'user' | 'app'>): Promise<Result> | undefined {
    return this.#open.get(loadKey(of))
  }

  /** Starts a load, which others may join until it ends or is closed. */
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

  /** No request joins the load of this user and app any more. */
  close (of: Pick<Load, 'user' | 'app'>): void {
    this.#open.delete(loadKey(of))
  }

  /** No request joins any running load any more. */
  closeAll (): void {
    this.#open.clear()
  }

  /** No request joins a load of this user any more. @param names of apps that were forgotten: their URLs are not kept */
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
