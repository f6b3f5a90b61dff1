/** Layers made by skopeo 1.22.0 with throw-away keys that serve nothing else. Plaintext: gzip of `known answer\n`, 33 bytes. */
export const knownPlaintext = "1f8b0800000000000203cbcecb2fcf5348cc2b2e4f2de20200f68826790d000000";

export const knownPrivateKeys = {
  ec: '{"kty":"EC","x":"tq4O4nvon5bq4Eo-Y9hWWYuIl6sRCgNJ8YaJxpf0kvk","y":"UmNG1MCX-YDg5w9L72pYxM4E1Tq61MfENouaOPt8YT4","crv":"P-256","d":"XE9027DPaO3FLjgYUX0EF59EX19CkVximH2ATK-nq5Y"}',
  rsa: '{"kty":"RSA","n":"u1sl7mqU5xAwmjJEfp0EukqdKzs3ID4Po2NKgk1w3-eAwZKMw2dfs5RMoGE0KuZJdnozqNO7c9vkse4oNmzErXmFZAGE7quZF5xKfskDUJK3a8X81tsKzxXvWyeShEkld3-CgybVxYE5IonZVcVzY1emIoPpH1sU_aEzUtJjWSyneAUQtlEf-pkoYQwOS28qiGF5e9Jr6DjqZfp4meZxyOcqyUlCGlmhKngJv7ULWRJw44NOTryQum76r1K-1ZDrlA7LIjAFF76ZpNFDtrcZzPBQJ6leAY-O4x76x-rJ3_uNnUxqRJFK2wnC3B8uz0Sd2cwJsSq_L87VbTqNOt_Y-Q","e":"AQAB","d":"BD18OMEqVhJKadPPaY82LDt6ELSry-17pCygGOgBj0gdvCIZa3QuydFktpB-TFVpKgG-HDF1snGDTzw2i2bjGDN0jQOL_72LMxJ9VwPb0o6HER9m-fgrAp1TybcG3-nFkNROubIWaWhCEwhnG-V2q8FEOQVUnDop9N-FWhmbDhpairsm9tOqOOjhVq2FgNPtNdD1BOFG4ugQXPPsTD3xrlm-kW6uxbQ568BdwvQ44ZnY799-rswhR4a5DM_wuQ7qByzh8Rj3DfK9ouk9GrlUXeDNCtu9qyHD1nQlz-k_IP6XYswWhFb5D1vQaXOUGqixmK7jVSBkre1VWqKWBdRhPQ","p":"3mUl_rr9EUP0k9ENUbB-00NzEm02YarWb8nzLUGoOPMfjt9-VaqDpA6NCalEY4BRkWCyuWSkCT7po7m8MoM3dRv79dhhjpHV-Kf4WuVLn84JTjajJ2pj0oJS8pwsTf5ggkaYtOfqzFacFM6o0u0uJOtKLCLgNSNGAiBDOe8vYKM","q":"16qXxqs3PkKz2nNJPaYOaXIRlisS1ADLAkvbZuVJeO1jfRi7hujPP9qinslme4vweySqOS_ZTv47adf-XoK4tpQYaviVSdgXhSsnDGqH25-XBsKo7_AaNW6P3gKlejtVHyN8UEy9wynTq7VdtWcT_BPum-JUlV30D30MuRo9DbM","dp":"JoPx_pm3tkPEmcz8t4cPj9sAlNJhNqz1kkqxWMckMSi58G54XLG5NrJmbqPn-iuA9OKAUWdCmW9R208RbtYWxqtgCYW974kGO5grhOJtJHH0Xp1LyEm-m_iCEQ5HBgLmB-neDIaVvWnKgjgAOPdmpHIzWE158vn25-taeTAZTm0","dq":"iFKrEceUaeSb70_EUhWvMnQKLdQYWK4PpOnyS75PjQLxSlfh4cszhfdbp-dCwoGYhx6MAw393PLS93qyrWcP_0jpjmSHaWAQrfqy-iQ0sFzWiE1voAszZeb3RayCkRsEGWTC5bc8lCrSQ82m6E250jN_NkYAlVIIPeobqr2tLgU","qi":"t_EjiRLMzOsi1YOEzILBArzv2O85-j-IBXxvLddoARyfOkXpoRz1LSr32aj8Uzxdv2s6MO7RfNcdqDUJEQwZNNUiTB1Xuh8EHSnIEaWsgx9GHTRoJnCHFWeDCZokK7uuSaRPtkrMmHXq26ag4WxEMVMpPM17ml0JN_VLVb2WiQ0"}',
};

/** `openedBy` lists keys: 0 the EC key, 1 the RSA key, 2 the key encryption key 00 01 … 1f. */
export const knownAnswers = [
  {
    name: "one EC recipient",
    scheme: "jwe",
    digest: "sha256:de93f58423af12c07396256cf8d2b1b7fd2f102d731ee54738745a02cf35f62f",
    ciphertext: "8b4966c2d5af2e88ebab1e29eaaaad3d649f0ddea12499d8bab8de5c9b4d26af9e",
    packet:
      '{"protected":"eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJlcGsiOnsia3R5IjoiRUMiLCJjcnYiOiJQLTI1NiIsIngiOiJMazJZc3c5cmNITEhpNlpiRV9fRGxCMzBnZ1ZKay1scU5TRF9BY21sb0RjIiwieSI6ImVGZ1hkZlpaVVdBNzc1Wk93U05mSERZc2Y3aVFnSzdtLUNfbGZTV1B0RFUifX0","encrypted_key":"wIQmN-alOaa_U__3Aw6SifncQpYXlXZjLZWKvfFzVQNg47ePlOjX4w","iv":"hFq4kNK35x_ysz5u","ciphertext":"ugwk2ghmmG8s9NEba7HhZb7I07A-AtGCmFEukck_vEPEnodyEXllk5zttPCV-UmX8TA4Efx3emkW0SwDT5DvFBGNp62yPPs6azv0ONczvww9Jrapc08DQ2OL1NDdVMu6_YoZKFdZvXZ8YLXpvZyJQORkKEd6vhIm-cGPjCk3NIFJpBiC9xBJ3GszEDz22ZUFMKK_SpajJGLBFmG-bWxVwPJuOjmTN3e02A5qVYnnK22uXWeJqdG6fF5TK3MJnAW2Ng","tag":"N1_07VYhD0Aw7jqYbiCoOw"}',
    pubopts: '{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"uY1mxW87RBx5lLLZ49lqNl4xyV8ICmlkoe1WK7jN5Yc=","cipheroptions":{}}',
    privateOptions:
      '{"symkey":"z23EtQRras06Hj9RvVG+92NsAfJBk75ItpifytyVzx8=","digest":"sha256:187aa02661195a664ba17abff9b32cbe541ffddc7fe721a45020265257af1565","cipheroptions":{"nonce":"GQgjJdR4V4dKCUh5Skjjog=="}}',
    openedBy: [0],
  },
  {
    name: "one RSA recipient",
    scheme: "jwe",
    digest: "sha256:5c43a1b834b40282750b50943b746c2329450e3f8ae8632fcb35284d65581dbd",
    ciphertext: "d7e3f4f8c690582b7ecc001ab43d6601a57117eb07b1603bd08cc0401bdbae0566",
    packet:
      '{"protected":"eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ","encrypted_key":"P0plzex4O8UZ1_bE57dofi-znf-3_ZdT76rUu3_zdYz5R2JYL7P-dO10_HmXSJAkpjbme1UlH2ov9Ci75N29324a2bmzKsJL4WRCBDMa2Th6PSXFb_3WfS68bbkBYGflqDjEbW58ia3ev_5SQOht6mEnZReZnZ91ycYftJyyZeB_YCbuk7qfOxpir8-e3UQX0jgUdGlpnPrn0QnnejoAK7V0VF-qJXt0loJSwjAvk4VdQnM4_yMAPHA8Gg3zw8eooCl80UbewCutSDEEDrtkiDIOI8oZ-WLXAorisyMFH6qse1v_i1ycJgqStzfoWm93gv9gH4BF_AL6_f5KxUrwXQ","iv":"cf-J-CPf5_Hn2-1m","ciphertext":"tD4yB3Vh_fetKpq0rX1eX-MbrDm7hzIxRFJk3ed4j5qXFqkh5ZO0VFNnPERqeWM3fyNC0pENErwF1rrBwfJd3tKSJpwf2AAHdcEcmMkeA1n1lOa2fag2oOcZk_K7CRgTdr0b48JSjk0B_qTLSjIGx9vVqnp2T7w3lfktZ4UYqzAzFsO2QlbM1tGkb_uVETVOMeO0MeNrDYsQ3ILt9xH17lW6_tNyvjOnSnPqljR-J_T2Drzaheno7Lr0O33HZdgN9w","tag":"jhqsUIbq4Q1o4gclSguoQg"}',
    pubopts: '{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"UqveGbEMDM8RmNihaIDoKnX2/CTLU4fthmgyWF8y29M=","cipheroptions":{}}',
    privateOptions:
      '{"symkey":"FCyTF4enUBdJEk1m1gH+H/LhyP2+nuysUn9TLEeyiTs=","digest":"sha256:187aa02661195a664ba17abff9b32cbe541ffddc7fe721a45020265257af1565","cipheroptions":{"nonce":"wJmvj+hThScVNj//7LQbyA=="}}',
    openedBy: [1],
  },
  {
    name: "two recipients in general form",
    scheme: "jwe",
    digest: "sha256:9e0ea077c62789d282052d856c29e714e404d827255960b48f4d63c78c7aab2d",
    ciphertext: "91f8e6be3b43cc44a0cced83062efe6a4a59409858975b15c21ae198701d83396e",
    packet:
      '{"protected":"eyJlbmMiOiJBMjU2R0NNIn0","recipients":[{"header":{"alg":"RSA-OAEP"},"encrypted_key":"cUknNIJHK24hH9Cfma59P6lorns6yMpspukKCkHowuh0keOvAG-fikthYy3AEOJw1Gi3nT2bj-VZGDRHEuLC25AIxeiDkb6fFbLyWY2topdaUrso69A3Rnpx7LQtD2haLJ123rv6gpGw6cV4ohfDcS8WS8SRe8wjO3PiYiPYuP03roHUJptiN-jY_uTzMiEPXZcHtLtiYkw12gRGbdtJnaxb8y6sBBFKakpuvRs92GI3TIiN-uROpYvK99M2cliEOXlQ4_78xZMqY-lgqUR36RhEVYejJq42S7YTW_VLdlQjpGm_UNoNoQsWE0MwUcgPjcsAGihvDzqmbrexC4oNQA"},{"header":{"alg":"ECDH-ES+A256KW","epk":{"kty":"EC","crv":"P-256","x":"RYcCJlm5IMCiiRuVCdFno1SniQj_U1y5vO2-k1bODQE","y":"RDWO-iC2FoMMDUX_V7wgLJbKuSGMDcVHozahpSdQjqw"}},"encrypted_key":"pJthfmU_43JjrvpXdefdG6eetKLSmKiub3_rN10LdMNsFsLvyhd_Mw"}],"encrypted_key":"cUknNIJHK24hH9Cfma59P6lorns6yMpspukKCkHowuh0keOvAG-fikthYy3AEOJw1Gi3nT2bj-VZGDRHEuLC25AIxeiDkb6fFbLyWY2topdaUrso69A3Rnpx7LQtD2haLJ123rv6gpGw6cV4ohfDcS8WS8SRe8wjO3PiYiPYuP03roHUJptiN-jY_uTzMiEPXZcHtLtiYkw12gRGbdtJnaxb8y6sBBFKakpuvRs92GI3TIiN-uROpYvK99M2cliEOXlQ4_78xZMqY-lgqUR36RhEVYejJq42S7YTW_VLdlQjpGm_UNoNoQsWE0MwUcgPjcsAGihvDzqmbrexC4oNQA","iv":"UkP8WzNMh60v-619","ciphertext":"HeR9bShBnIVS35jQttsyFJS0CQs1itMvQvkvvgFE_ldtKrBv183dlUBKwTC3RWrbQUUzVclpMlqyN6zRQGffxWpcFAFcEsqxfuXRiUr0wDDvIZCRj8wRD4hsYr5CDJdjYhi0uuDSro3CR7kju4HTsy2U7nm0lyRESGt3NwNA-ujKQdyCVIg3_66ZOyOB0KVuUqg2Jny5zLe1YwEVXBYrhsk2YMLW3ulg2_5488JtQQVAKRnjPXWaRo5mEdTnXR62Gw","tag":"Q0tvqKCesEV9KY2o3YP4XA"}',
    pubopts: '{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"vjLVt6HX8znWgueuybFswn7wWkV+K13A5apwg7aFd1U=","cipheroptions":{}}',
    privateOptions:
      '{"symkey":"dUddWHyJDmY1B8OkIYbcWUVY7KxpfoSZbS0rF7htTBA=","digest":"sha256:187aa02661195a664ba17abff9b32cbe541ffddc7fe721a45020265257af1565","cipheroptions":{"nonce":"AIOuaZZ5ecWkqCOEDk2wcg=="}}',
    openedBy: [0, 1],
  },
  {
    name: "CoCo's packet v1",
    scheme: "provider.attestation-agent",
    digest: "sha256:45bd38e06c0063ab3ff38d88f79a093f18808e431228384ee85f98e0816b6f74",
    ciphertext: "caaf6fa281899e48d59282f5487902f5ecb3c075974ea3061dfb0700f370faee1b",
    packet:
      '{"kid":"kbs:///default/image-kek/kat","wrapped_data":"PCClYqiOp2Kve7Xc9ZAQFeeX03ymMS4KTiWJtDY5Z5lyIN6Mx4JlwS31T5/y9UJypT4ktTebnvgTtU5wf4aGmtIG5Am7sBRUKm6bVtjub9gKvP9TR1pmCcvLqq4ZwY7sqZ4/38Zy+nn8eQuGeRNHG94EVc2G8herLMti/bDWXDiOYDXx1bH6Zj7Uao0fuSWyXpGRWkVl+iXiLMpNgfCHgf30+zfT3aJV5jHt0YbN4NXqj7tkyOcVyTLomrBM+JWObnv+XCMSPXVctlp1rsl2ab4=","iv":"AAECAwQFBgcICQoL","wrap_type":"A256GCM"}',
    pubopts: '{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"WFsBjY1JVFGYoM4cL1MWq+e1SGwrqgaSlJbWvilvYFg=","cipheroptions":{}}',
    privateOptions:
      '{"symkey":"WDyhxdATHVJqvvBl1+Pg+s0pphCwYYQ0rzrjJKgD8mM=","digest":"sha256:187aa02661195a664ba17abff9b32cbe541ffddc7fe721a45020265257af1565","cipheroptions":{"nonce":"n+AR0+YMfnwAqFCLfuW7Zw=="}}',
    openedBy: [2],
  },
] as const;
