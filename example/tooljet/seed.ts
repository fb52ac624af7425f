import { readFileSync } from 'node:fs'
import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

const SeedFile = Type.Object({
  users: Type.Array(Type.Object({ email: Type.String(), apps: Type.Array(Type.String()) })),
  apps: Type.Array(Type.Object({
    id: Type.String(),
    slug: Type.String(),
    name: Type.String(),
    shows: Type.Optional(Type.Union([Type.Literal('deals'), Type.Literal('stock')])),
    status: Type.Optional(Type.Union([Type.Literal('released'), Type.Literal('unreleased'), Type.Literal('restricted')])),
  })),
})

/** The users and apps of a stand-in; a user's `apps` are slugs. An app that is not released, or restricted, opens, and then shows an error page. */
export type Seed = Static<typeof SeedFile>

/** An app whose slug differs from its id. */
export const SALES = { id: '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc', slug: 'sales', name: 'Sales pipeline', shows: 'deals' } as const
/** An app that was never given a slug of its own: ToolJet then uses the id. */
export const INVENTORY = { id: 'c6f0d2f4-0a3e-4a57-9c1b-5a1de2f0b7aa', slug: 'c6f0d2f4-0a3e-4a57-9c1b-5a1de2f0b7aa', name: 'Inventory', shows: 'stock' } as const

export const DEFAULT_SEED: Seed = {
  apps: [SALES, INVENTORY],
  users: [
    { email: 'dev@tooljet.io', apps: [SALES.slug, INVENTORY.slug] },
    { email: 'ana@acme.test', apps: [SALES.slug, INVENTORY.slug] },
    { email: 'ben@acme.test', apps: [SALES.slug, INVENTORY.slug] },
    { email: 'omar@acme.test', apps: [SALES.slug, INVENTORY.slug] },
    { email: 'cleo@acme.test', apps: [INVENTORY.slug] }, // may not open the sales app
  ],
}

/** @throws when the file is missing or not of the form above */
export function readSeed (path: string): Seed {
  const json: unknown = JSON.parse(readFileSync(path, 'utf8'))
  const error = Value.Errors(SeedFile, json).First()
  if (error !== undefined) throw new Error(`TOOLJET_SEED ${path}: ${error.path || '/'} ${error.message}`)
  return json as Seed
}
