{{ config(alias='overdue_kpis', materialized='view') }}

{#- A view: whoever asks for a period pays for that period, and a daily build for nothing. -#}

with final as (

    {{ overdue_kpis() }}

)

select * from final
