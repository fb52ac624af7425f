/** Where the API is: another origin than this page's. */
export const API_URL: string = import.meta.env['VITE_API_URL']

interface Token {
  token: string
  /** Seconds. */
  expiresIn: number
}

/** Somebody who is signed in. The token is in this page's memory and nowhere else: a reload signs out. */
export class Session {
  #token = ''
  #timer: ReturnType<typeof setTimeout> | undefined

  private constructor (readonly email: string, token: Token) {
    this.#keep(token)
  }

  static async signIn (email: string): Promise<Session> {
    const response = await post('/api/token', { 'content-type': 'application/json' }, JSON.stringify({ email }))
    const answer = await response.json()
    if (!response.ok) throw new Error(answer.message)
    return new Session(email, answer)
  }

  /** For a request to the API. */
  readonly headers = (): { authorization: string } => ({ authorization: `Bearer ${this.#token}` })

  end (): void {
    clearTimeout(this.#timer)
  }

  #keep ({ token, expiresIn }: Token): void {
    this.#token = token
    this.#renewIn(expiresIn / 2)
  }

  #renewIn (seconds: number): void {
    this.#timer = setTimeout(() => this.#renew(), seconds * 1000)
  }

  async #renew (): Promise<void> {
    try {
      const response = await post('/api/token/next', this.headers())
      if (response.ok) this.#keep(await response.json()) // else the API answers the next request with 401
    } catch {
      this.#renewIn(5)
    }
  }
}

function post (path: string, headers: Record<string, string>, body?: string): Promise<Response> {
  return fetch(API_URL + path, { method: 'POST', headers, body: body ?? null })
}
