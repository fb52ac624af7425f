export { default } from '@fastify/jwt'

export const autoConfig = ({ config }) => ({ secret: config.JWT_SECRET })
