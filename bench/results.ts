import { readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import type { Redis } from 'ioredis'
import type { AuditResult } from './audit.js'
import type { CandidateResult } from './candidates.js'
import type { CacheSizeResult } from './cache-size.js'
import { LOAD_BY } from './load.js'
import type { LoginStormResult } from './login-storm.js'
import type { Plan } from './plan.js'
import type { StampedeResult } from './stampede.js'

/** What `results.json` holds; a part that was left out is not there. */
export interface Results {
  date: string
  quick: boolean
  plan: Plan
  machine: Machine
  /** Of the whole run. */
  seconds: number
  candidates?: CandidateResult[]
  stampede?: StampedeResult
  cacheSize?: CacheSizeResult
  audit?: AuditResult
  loginStorm?: LoginStormResult
}

export interface Machine {
  cores: number
  model: string
  /** Versions by name. */
  versions: Record<string, string>
  load: string
  /** Of the last minute before the run: what else the machine was doing. */
  loadAverage: number
}

const LIBRARIES = ['fastify', '@fastify/jwt', '@fastify/rate-limit', 'ioredis', 'express', 'jsonwebtoken', 'express-rate-limit', 'rate-limit-redis', 'async-cache-dedupe', 'axios']

export async function describeMachine (redis: Redis): Promise<Machine> {
  const redisVersion = /^redis_version:(\S+)/m.exec(await redis.info('server'))![1]!
  const libraries = LIBRARIES.map((name) => {
    const file = new URL(`../node_modules/${name}/package.json`, import.meta.url)
    return [name, (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version]
  })
  return {
    cores: cpus().length,
    model: cpus()[0]?.model ?? 'unknown',
    versions: { node: process.versions.node, redis: redisVersion, ...Object.fromEntries(libraries) as Record<string, string> },
    load: LOAD_BY,
    loadAverage: loadavg()[0]!,
  }
}
