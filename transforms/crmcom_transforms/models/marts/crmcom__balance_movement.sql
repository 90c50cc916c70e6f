{{ config(alias='balance_movement', materialized='view') }}

{#- A view: whoever asks for a period pays for that period, and a daily build for nothing. -#}

with final as (

    {{ balance_movement() }}

)

select * from final
