/**
 * Tells TypeScript a host's apps, so that an alias with a typo does not compile:
 *
 * ```ts
 * declare module 'fastify-tooljet-embed' {
 *   interface FastifyTooljetEmbed { apps: typeof apps }
 * }
 * ```
 */
export interface FastifyTooljetEmbed {}

/** An alias of `apps`: one that is declared in `FastifyTooljetEmbed`, or any string without a declaration. */
export type AppAlias = FastifyTooljetEmbed extends { apps: infer KnownApps } ? keyof KnownApps & string : string
