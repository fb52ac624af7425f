import jwt from 'jsonwebtoken'
import { getGlobalDispatcher, type Dispatcher } from 'undici'
import { markOf, SALES } from './servers/token-mark.js'
import { PATH } from './servers/serve.js'
import { JWT_SECRET } from './environment.js'

/** One user's request, as a page with ToolJet's documented snippet sends it. */
export interface UserRequest {
  email: string
  headers: Record<string, string>
  body: string
}

/** Where a body has this, each request gets a number of its own: twelve digits. */
export const NUMBER = 'NNNNNNNNNNNN'

export function emailOf (user: number): string {
  return `user-${user}@acme.test`
}

/** @param appId {@link NUMBER} in it makes every request name another app */
export function requestsOf (users: readonly number[], appId = SALES): UserRequest[] {
  return users.map((user) => {
    const email = emailOf(user)
    return {
      email,
      headers: {
        authorization: `Bearer ${jwt.sign({ email }, JWT_SECRET, { algorithm: 'HS256', expiresIn: '1d' })}`,
        'content-type': 'application/json',
        'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
      },
      body: JSON.stringify({ email, appId }),
    }
  })
}

export function firstUsers (count: number): number[] {
  return Array.from({ length: count }, (_, user) => user)
}

export interface Answer {
  status: number
  retryAfter: number
  body: { redirectUrl?: string, source?: string, code?: string }
}

let number = 0

export function send (url: string, { headers, body }: UserRequest, dispatcher: Dispatcher = getGlobalDispatcher()): Promise<Answer> {
  const numbered = body.replace(NUMBER, String(++number).padStart(NUMBER.length, '0'))
  return new Promise((resolve, reject) => {
    let status = 0
    let retryAfter = 0
    let text = ''
    // request() costs twice as much, on cores that the servers need
    dispatcher.dispatch({ origin: url, path: PATH, method: 'POST', headers, body: numbered }, {
      onRequestStart () {},
      onResponseStart (_, statusCode, { 'retry-after': after }) {
        status = statusCode
        retryAfter = Number(after ?? 0)
      },
      onResponseData (_, chunk) { text += chunk.toString() },
      onResponseEnd () { resolve({ status, retryAfter, body: JSON.parse(text) as Answer['body'] }) },
      onResponseError (_, error) { reject(error) },
    })
  })
}

/** @throws when the answer is not this user's URL */
export function checkAnswer ({ email }: UserRequest, { status, body }: Answer): void {
  if (status === 200 && body.redirectUrl?.includes(`pat_${markOf(email)}`) === true) return
  throw new Error(`${email} got ${status} ${JSON.stringify(body)}`)
}

/** Sends the requests one after the other, and checks each answer. */
export async function checkAnswers (url: string, requests: readonly UserRequest[]): Promise<void> {
  for (const request of requests) checkAnswer(request, await send(url, request))
}

/** A random sample. */
export function sample<T> (list: readonly T[], count: number): T[] {
  return Array.from({ length: count }, () => list[Math.floor(Math.random() * list.length)]!)
}
